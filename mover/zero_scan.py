"""Finds zeros by looking, for sources that cannot say where their holes are."""

from __future__ import annotations

from mover.geometry import Extent

GRANULE_BYTES = 64 << 10
_ZEROS = bytes(GRANULE_BYTES)


def nonzero_parts(view: memoryview, base: int, parts: tuple[Extent, ...]) -> list[Extent]:
    """What of `parts` (their bytes are in `view`, which begins at `base`) is not zeros, in granules of 64 KiB."""
    found: list[Extent] = []
    for part in parts:
        for offset in range(part.offset, part.end, GRANULE_BYTES):
            length = min(GRANULE_BYTES, part.end - offset)
            # As bytes: comparing memoryviews goes element by element and is fifty times slower.
            if bytes(view[offset - base : offset - base + length]) == _ZEROS[:length]:
                continue
            if found and found[-1].end == offset:
                found[-1] = Extent(found[-1].offset, found[-1].length + length)
            else:
                found.append(Extent(offset, length))
    return found
