"""Compares what lies on the target with the checksum that the source states over the whole disk.

The target's blocks are proven by then, so this says whether the bytes as read were the source's own: a byte that was
flipped before we read it is found here.
"""

from __future__ import annotations

from mover.buffers import ZEROS, block_buffer
from mover.geometry import block_extent
from mover.halt import Halt
from mover.ledger import Ledger
from mover.progress import DiskMeter
from mover.targets.base import Target
from mtv.model.errors import PermanentError, TemporaryError

_KNOWN = ("sha512", "sha384", "sha256", "sha1", "md5")


def hasher_of(checksum: str) -> tuple[str, str]:
    """Algorithm and digest of `<algorithm>:<hex>`; `PermanentError` (source-checksum-kind) if we know it not."""
    import hashlib  # here: most sources state no checksum, and OpenSSL takes a while to load

    name, _, expected = checksum.partition(":")
    if name not in _KNOWN or len(expected) != hashlib.new(name, usedforsecurity=False).digest_size * 2:
        raise PermanentError(
            f"the source's checksum is of a kind that is not known: {name!r}",
            cure=f"use one of {', '.join(_KNOWN)} in hex",
            code="source-checksum-kind",
        )
    return name, expected.lower()


def check_content(target: Target, ledger: Ledger, checksum: str, halt: Halt, meter: DiskMeter) -> str:
    """Hash all of the target in order; returns the checksum if it agrees, "" when told to stop.

    If it does not agree nothing is proven any more and `TemporaryError` (source-checksum) is raised: the next attempt
    reads everything again.
    """
    import hashlib

    name, expected = hasher_of(checksum)
    hasher = hashlib.new(name, usedforsecurity=False)
    digests, buffer = ledger.digests, block_buffer()
    meter.enter("verify", total=digests.size_bytes)
    for index in range(digests.count):
        if halt.is_set():
            return ""
        where = block_extent(index, digests.size_bytes)
        if digests.is_zero(index):
            hasher.update(ZEROS[: where.length])
        else:
            target.read(buffer, where.offset, where.length)
            hasher.update(buffer[: where.length])
        meter.add(where.length)
    found = hasher.hexdigest()
    if found != expected:
        ledger.drop_all()
        raise TemporaryError(
            f"the source states {name} {expected}, the bytes that it sent have {found}",
            cure="the next try copies all of it again; if that ends the same way, the image is damaged where it lies",
            code="source-checksum",
        )
    return f"{name}:{found}"
