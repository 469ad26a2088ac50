"""Blocks and extents: pure arithmetic over a disk cut into 4 MiB blocks. Offsets and lengths are bytes.

disk     |----------------|----------------|----------------|------|
block           0                1                2             3      (the last one may be short)
extents     ###########        ####                        #######     (data; the rest reads as zeros)
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

BLOCK_BYTES = 4 << 20
"""Unit of reading, hashing, journalling and verifying."""


class Extent(NamedTuple):
    """A half-open range of bytes of a disk."""

    offset: int
    length: int

    @property
    def end(self) -> int:
        """First byte after the range."""
        return self.offset + self.length


class BlockWork(NamedTuple):
    """A block that holds data, and which parts of it do (absolute offsets, ascending, not touching each other)."""

    block: int
    parts: tuple[Extent, ...]


class Span(NamedTuple):
    """A part of what was wanted: where it lies inside of the thing with this number, and at what place of the wish."""

    number: int
    inside: Extent
    at: int


def block_count(size_bytes: int) -> int:
    """How many blocks a disk has."""
    return -(-size_bytes // BLOCK_BYTES)


def block_extent(index: int, size_bytes: int) -> Extent:
    """Where a block lies; the last one ends with the disk."""
    start = index * BLOCK_BYTES
    return Extent(start, min(BLOCK_BYTES, size_bytes - start))


def merged(extents: Iterable[Extent], size_bytes: int) -> list[Extent]:
    """Sorted extents, clipped to the disk, with overlapping and touching ones joined and empty ones dropped."""
    joined: list[Extent] = []
    for extent in sorted(extents):
        start, end = max(extent.offset, 0), min(extent.end, size_bytes)
        if end <= start:
            continue
        if joined and start <= joined[-1].end:
            last = joined[-1]
            joined[-1] = Extent(last.offset, max(last.end, end) - last.offset)
        else:
            joined.append(Extent(start, end - start))
    return joined


def cut_into_blocks(extents: Iterable[Extent]) -> Iterator[BlockWork]:
    """The blocks that hold data, ascending. `extents` must be as `merged` returns them."""
    index, parts = -1, list[Extent]()
    for extent in extents:
        offset = extent.offset
        while offset < extent.end:
            here = offset // BLOCK_BYTES
            length = min(extent.end, (here + 1) * BLOCK_BYTES) - offset
            if here != index:
                if parts:
                    yield BlockWork(index, tuple(parts))
                index, parts = here, []
            parts.append(Extent(offset, length))
            offset += length
    if parts:
        yield BlockWork(index, tuple(parts))


def spans(ends: Sequence[int], wanted: Extent) -> Iterator[Span]:
    """Where `wanted` lies in things that are one behind the other; `ends` are their ends, the last one at or behind
    `wanted`'s. Things without a byte are passed over.
    """
    position = wanted.offset
    index = bisect_right(ends, position)
    while position < wanted.end:
        start = ends[index - 1] if index else 0
        step = min(wanted.end, ends[index]) - position
        if step:
            yield Span(index, Extent(position - start, step), position - wanted.offset)
        position += step
        index += 1


def runs_without(blocks: Iterable[int], count: int) -> Iterator[range]:
    """The runs of block indexes below `count` that are not among `blocks` (ascending)."""
    following = 0
    for index in blocks:
        if index > following:
            yield range(following, index)
        following = max(following, index + 1)
    if following < count:
        yield range(following, count)


def runs_of(indexes: list[int]) -> Iterator[range]:
    """The runs that ascending indexes make up."""
    start = 0
    for position in range(1, len(indexes) + 1):
        if position == len(indexes) or indexes[position] != indexes[position - 1] + 1:
            yield range(indexes[start], indexes[position - 1] + 1)
            start = position


def gaps(parts: Iterable[Extent], whole: Extent) -> Iterator[Extent]:
    """What of `whole` is not covered by `parts` (ascending)."""
    position = whole.offset
    for part in parts:
        if part.offset > position:
            yield Extent(position, part.offset - position)
        position = max(position, part.end)
    if position < whole.end:
        yield Extent(position, whole.end - position)


def aligned_outwards(parts: Iterable[Extent], whole: Extent, alignment: int) -> list[Extent]:
    """`parts` grown to multiples of `alignment` inside `whole`, joined where they then touch."""
    grown = (
        Extent(start, min(-(-part.end // alignment) * alignment, whole.end) - start)
        for part in parts
        for start in (max(part.offset // alignment * alignment, whole.offset),)
    )
    return merged(grown, whole.end)
