"""Page-aligned memory: O_DIRECT wants it, and one buffer then serves reading, hashing and writing."""

from __future__ import annotations

import contextlib
import mmap

from mover.geometry import BLOCK_BYTES

PAGE_BYTES = 4096
"""Alignment that every disk and filesystem with 512 or 4096-byte sectors accepts for O_DIRECT."""

HUGE_PAGE_BYTES = 2 << 20
"""The least memory that can be in one piece physically."""


def block_buffer() -> memoryview:
    """Memory for one block."""
    return buffer_of(BLOCK_BYTES)


def buffer_of(length: int) -> memoryview:
    """Anonymous memory of `length` bytes, page aligned, as a writable view. Freed when the last view goes."""
    area = _anonymous(length)
    # A child that is being started never shares it: until it runs its program, a page that the disk is writing to could
    # become the child's, and ours a copy from before.
    area.madvise(mmap.MADV_DONTFORK)
    return memoryview(area)


def _anonymous(length: int) -> mmap.mmap:
    """Memory in huge pages, as far as `length` is a multiple of them.

    A disk takes so many pieces of memory in a request (254 is usual), and 4 MiB in pages of 4 KiB become several small
    requests: on a virtio disk writing was 5 times as fast, and reading, too. Private, as shared memory gets none.
    """
    area = mmap.mmap(-1, length, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(OSError):  # a kernel without huge pages: the copy is only slower
        area.madvise(mmap.MADV_HUGEPAGE)
    return area


ZEROS = memoryview(_anonymous(BLOCK_BYTES)).toreadonly()
"""One block of zeros, page aligned; never written to."""
