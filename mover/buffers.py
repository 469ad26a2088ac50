"""Page-aligned memory: O_DIRECT wants it, and one buffer then serves reading, hashing and writing."""

from __future__ import annotations

import mmap

from mover.geometry import BLOCK_BYTES

PAGE_BYTES = 4096
"""Alignment that every disk and filesystem with 512 or 4096-byte sectors accepts for O_DIRECT."""


def block_buffer() -> memoryview:
    """Anonymous memory for one block, page aligned, as a writable view. Freed when the last view goes."""
    return memoryview(mmap.mmap(-1, BLOCK_BYTES))


ZEROS = block_buffer().toreadonly()
"""One block of zeros, page aligned; never written to."""
