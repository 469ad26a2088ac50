"""The copy against the source's own checksum: finds what went wrong before or while the blocks were read first."""

from __future__ import annotations

from mover.buffers import block_buffer
from mover.feed import Complain, Patience
from mover.geometry import block_extent
from mover.halt import Halt
from mover.ledger import Ledger
from mover.sources.base import BlockChecksum
from mover.targets.base import Target
from mtv.model.errors import TemporaryError


def fetch_checksum(checksum: BlockChecksum, halt: Halt, complain: Complain) -> None:
    """Have the source compute its checksum, beside the copy; tried again like a read."""
    patience = Patience(halt, complain)
    while not halt.is_set() and not checksum.of_source:
        try:
            checksum.fetch(halt.is_set)
        except TemporaryError as error:
            patience.endure(error)


def compare_with_source(disk_id: str, checksum: BlockChecksum, ledger: Ledger, target: Target, halt: Halt) -> str:
    """`<kind>:<hex>` if source and copy agree, "" when told to stop.

    Blocks that were not read in this attempt are hashed from the target. If the two do not agree nothing is proven any
    more and `TemporaryError` (source-checksum) is raised: the next attempt reads everything again.
    """
    digests, buffer = ledger.digests, block_buffer()
    for index in range(digests.count):
        if checksum.has(index):
            continue
        if digests.is_zero(index):
            checksum.note_zeros(index)
            continue
        if halt.is_set():
            return ""
        where = block_extent(index, digests.size_bytes)
        target.read(buffer, where.offset, where.length)
        checksum.note(index, buffer[: where.length])
    found, expected = checksum.of_copy(), checksum.of_source
    if not expected:
        return ""
    if found != expected:
        ledger.drop_all()
        raise TemporaryError(
            f"disk {disk_id}: the source's own checksum is {checksum.name} {expected}, what was copied has {found}",
            cure="the next try copies all of it again; if that ends the same way, the disk changes while it is read:"
            " copy from a snapshot, or with the VM off",
            code="source-checksum",
        )
    return f"{checksum.name}:{expected}"
