"""A journal moves on to a newer generation: what changed is copied again, what did not change stays proven.

    journal of G1  ──▶  journal of G2, beside it  ──rename──▶  copy of what is not proven  ──▶  complete
                        unchanged: proven, with G1's digests
                        changed or not known: dropped, holds old bytes

Nothing is written to the target before the rename, so that the journal before it is true of G1. After it the journal
claims of G2 only what G1 and G2 share; a crash from there on resumes like any copy of G2. So at no moment is a mix of
both called either.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from mover.block_set import BlockSet
from mover.digest import DIGEST_BYTES, BlockDigests
from mover.geometry import Extent, cut_into_blocks, merged
from mover.journal import Journal, believed_header, read_journal
from mover.journal_format import DROPPED, PROVEN, Header, Record
from mover.sources.base import Source
from mtv.model.errors import PermanentError
from mtv.model.transfer import DiskTransfer


class Carried(NamedTuple):
    """What a delta takes over: blocks that stay proven, and whether all of them were read back in their time."""

    blocks: BlockSet
    is_verified: bool

    def without(self, changed: Iterable[int]) -> Carried:
        """The same, but for blocks that the copy changed after all."""
        return self._replace(blocks=self.blocks.without(changed))


NOTHING = Carried(BlockSet(b""), False)
UNKNOWN = bytes(DIGEST_BYTES)
"""Digest of a dropped block of which nothing is known."""


def changed_extents(disk: DiskTransfer, source: Source) -> list[Extent]:
    """What differs from the base generation, as the spec says it, or as the source does."""
    if disk.dirty_context:
        return source.changed_since(disk.dirty_context)
    return merged((Extent(offset, length) for offset, length in disk.dirty or ()), disk.size_bytes)


def check_delta(disk: DiskTransfer) -> None:
    """Raise `PermanentError` (code spec) for a delta that does not say what changed, or that changes nothing's name."""
    tells = disk.dirty is not None or bool(disk.dirty_context)
    if tells != bool(disk.base_generation) or (disk.dirty is not None and disk.dirty_context):
        raise PermanentError(
            f"disk {disk.id}: a delta needs base_generation and one of dirty and dirty_context", code="spec"
        )
    if tells and disk.base_generation == disk.generation:
        raise PermanentError(f"disk {disk.id}: a delta leads to another generation than its base's", code="spec")
    if any(offset < 0 or length < 0 or offset + length > disk.size_bytes for offset, length in disk.dirty or ()):
        raise PermanentError(f"disk {disk.id}: a dirty extent lies outside the disk", code="spec")


def carry_over(
    path: Path,
    header: Header,
    base_generation: str,
    changed: Callable[[], list[Extent]],
    check_lock: Callable[[], None],
) -> Carried:
    """Make the journal at `path` one of `header.generation` if it is of the base now; the blocks that stay proven.

    Returns an empty set and leaves the journal alone if it is of another disk, target or generation: then the copy
    goes on as it would without a delta. `changed()` is asked only if it is needed.
    """
    found = believed_header(path)
    if found is None or found.generation != base_generation or found.differs_from(header) != ["generation"]:
        return NOTHING
    _, base = read_journal(path)
    kept = BlockSet(base.proven).without(work.block for work in cut_into_blocks(changed()))
    Journal.replace(path, header, _records(base.digests, kept), check_lock=check_lock)
    return Carried(kept, base.is_verified)


def _records(digests: BlockDigests, kept: BlockSet) -> Iterator[Record]:
    """One record for every run of blocks with the same fate."""
    waiting: Record | None = None
    for index in range(digests.count):
        record = Record(index, 1, PROVEN, digests[index]) if index in kept else Record(index, 1, DROPPED, UNKNOWN)
        if waiting and (waiting.kind, waiting.digest) == (record.kind, record.digest):
            waiting = waiting._replace(blocks=waiting.blocks + 1)
            continue
        if waiting:
            yield waiting
        waiting = record
    if waiting:
        yield waiting
