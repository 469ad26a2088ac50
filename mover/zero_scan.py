"""Finds zeros by looking: many sources cannot say where their holes are, or call stored zeros data."""

from __future__ import annotations

from mover.geometry import Extent

GRANULE_BYTES = 64 << 10
_ZEROS = bytes(GRANULE_BYTES)
_GLANCE_BYTES = 64


def nonzero_parts(view: memoryview, base: int, parts: tuple[Extent, ...]) -> list[Extent]:
    """What of `parts` (their bytes are in `view`, which begins at `base`) is not zeros, in granules of 64 KiB."""
    found: list[Extent] = []
    for part in parts:
        for offset in range(part.offset, part.end, GRANULE_BYTES):
            length = min(GRANULE_BYTES, part.end - offset)
            if _is_zero(view[offset - base : offset - base + length]):
                continue
            if found and found[-1].end == offset:
                found[-1] = Extent(found[-1].offset, found[-1].length + length)
            else:
                found.append(Extent(offset, length))
    return found


def _is_zero(granule: memoryview) -> bool:
    # As bytes: comparing memoryviews goes element by element and is fifty times slower. The first few bytes settle it
    # for most data, without a copy of the whole.
    if bytes(granule[:_GLANCE_BYTES]) != _ZEROS[: min(len(granule), _GLANCE_BYTES)]:
        return False
    return bytes(granule) == _ZEROS[: len(granule)]
