"""The end of a copy: which blocks are still to be read back, what its digest proves, and what did not come true."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

from mover.digest import BlockDigests
from mover.failure import DigestMismatch
from mover.geometry import Extent, block_extent, cut_into_blocks, runs_without
from mover.readback import Mismatch
from mover.targets.base import Target
from mtv.model.transfer import Proof, Verify


def unread_blocks(
    target: Target, digests: BlockDigests, resumed: Collection[int], was_read_back: Callable[[int], bool]
) -> Iterator[int]:
    """Blocks that the read-back has not been given yet: `resumed`, proven by an earlier attempt, or believed to be
    zeros. `was_read_back` says of which it needs no second look.
    """
    nonzero = [index for index in range(digests.count) if not digests.is_zero(index)]
    yield from (index for index in nonzero if index in resumed and not was_read_back(index))
    following = -1
    for run in runs_without(nonzero, digests.count):
        start = block_extent(run.start, digests.size_bytes).offset
        end = block_extent(run.stop - 1, digests.size_bytes).end
        for area in target.areas_to_check(Extent(start, end - start)):
            for block in cut_into_blocks([area]):
                if block.block > following:
                    following = block.block
                    if not was_read_back(block.block):
                        yield block.block


def proof_of(verify: Verify, source_digest: str, *, reread: bool) -> Proof:
    """The strongest that can be said. `source_digest` is the source's own checksum if it agreed, `reread` whether a
    second read of the source did.
    """
    if verify is not Verify.FULL:
        return Proof.NONE
    if source_digest:
        return Proof.SOURCE_CHECKED
    return Proof.REREAD if reread else Proof.AS_READ


def mismatch_error(disk_id: str, target: Target, mismatch: Mismatch, first_wrong: int | None) -> DigestMismatch:
    """The error for a block that reads back wrong after two tries; `first_wrong` is the offset of the byte if known."""
    where = block_extent(mismatch.block, target.size_bytes)
    seen = f"; first wrong byte at {first_wrong}" if first_wrong is not None else ""
    return DigestMismatch(
        f"disk {disk_id}: the block at {where.offset} ({where.length} bytes) of {target.path} reads back"
        f" wrong after two tries: expected {mismatch.expected.hex()}, found {mismatch.found.hex()}{seen}",
        cure="the target's storage does not keep what is written: have it checked, or use another storage class",
        offset=first_wrong if first_wrong is not None else where.offset,
    )
