"""The root digest of what lies on a disk now: a file, a block device or an NBD export (see `mover.digest`)."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

from mover.budget import Budget
from mover.crew import Crew
from mover.digest import BlockDigests, block_digest
from mover.failure import storage_error
from mover.feed import Loaded, for_each_block
from mover.geometry import Extent, cut_into_blocks
from mover.halt import Halt
from mover.sources.base import RandomSource, Source
from mover.sources.raw import RawSource
from mover.sources.window import Window, refuse_unsized


def digest_of_path(path: Path, *, size_bytes: int | None = None) -> str:
    """Root digest of the first `size_bytes` of a file or block device (default: all of it), read from the medium."""
    source = open_from_medium(path, size_bytes=size_bytes)
    try:
        return digest_of_source(source)
    finally:
        source.close()


def open_from_medium(path: Path, *, size_bytes: int | None = None) -> RawSource:
    """A file or block device as a source; what is in the page cache is written out and dropped first."""
    try:
        refuse_unsized(path)
        found = _drop_from_cache(path)
    except OSError as error:
        raise storage_error(error, where="source", what=f"read {path}") from error
    return RawSource(Window(path, 0, found if size_bytes is None else size_bytes))


def digest_of_source(source: RandomSource) -> str:
    """Root digest of any source that is read at an offset; holes are not read."""
    return read_digests(source, source.extents(), Halt()).root()


def read_digests(
    source: Source,
    extents: list[Extent],
    halt: Halt,
    *,
    complain: Callable[[str], None] = lambda _message: None,
    count: Callable[[int], None] = lambda _bytes: None,
    budget: Budget | None = None,
) -> BlockDigests:
    """Read a source and digest its blocks; `extents` say where data is (a stream tells by itself). `complain` is told
    of tries that failed, `count` how many bytes more were read. Not all of it is there if `halt` went up.
    """
    digests = BlockDigests(source.size_bytes)
    lock = threading.Lock()

    def note(loaded: Loaded) -> None:
        digest = block_digest(loaded.view)
        with lock:
            digests[loaded.block] = digest
        count(sum(part.length for part in loaded.parts))

    blocks = cut_into_blocks(extents)
    for_each_block(source, blocks, note, Crew(halt), halt=halt, complain=complain, budget=budget)
    return digests


def _drop_from_cache(path: Path) -> int:
    """Write out and forget what the page cache holds of a file or device; returns its size in bytes."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        return os.lseek(fd, 0, os.SEEK_END)
    finally:
        os.close(fd)
