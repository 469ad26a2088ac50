"""The shape of a target, and what files and block devices have in common: aligned writes past the page cache."""

from __future__ import annotations

import ctypes
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path

from mover.buffers import PAGE_BYTES, ZEROS
from mover.failure import storage_error
from mover.geometry import Extent
from mover.positioned import close_flushed, write_all
from mtv.model.errors import MtvError, TemporaryError

KEEP_SIZE = 0x01
PUNCH_HOLE = 0x02
ZERO_RANGE = 0x10
_SECTOR_BYTES = 512
_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)


class Target(ABC):
    """A disk being written. Offsets and lengths are bytes; failures carry codes that begin with `target-`."""

    holes_are_zeros: bool
    """Whether what was never written since `prepare` reads as zeros."""
    is_recognizable: bool
    """Whether `mark` surely tells this target from another. If not, what an earlier attempt proved is read back again,
    whatever the mode of verification."""

    def __init__(self, path: Path, size_bytes: int) -> None:
        self.path = path
        self.size_bytes = size_bytes
        self.before_write: Callable[[], None] = lambda: None
        """Asked before every single change; raises if we may no longer write."""
        self._buffered = self._open(os.O_RDWR)
        try:
            self._direct = os.open(path, os.O_RDWR | os.O_DIRECT | os.O_CLOEXEC)
        except OSError:
            self._direct = -1  # tmpfs and some network filesystems: written buffered, dropped from cache before reading

    @property
    def is_direct(self) -> bool:
        """Whether writes and reads go past the page cache."""
        return self._direct >= 0

    @property
    @abstractmethod
    def mark(self) -> str:
        """What tells this target from another at the same path; bound into the journal."""

    @property
    @abstractmethod
    def is_intact(self) -> bool:
        """Whether what a journal says of it can still be true."""

    @abstractmethod
    def prepare(self) -> None:
        """Make it ready for a copy from zero."""

    @abstractmethod
    def areas_to_check(self, area: Extent) -> Iterator[Extent]:
        """The parts of an area believed to be zeros that may hold something else and must be read to know."""

    def write(self, data: memoryview, offset: int) -> None:
        """Write all of `data`; durable after `flush`. Aligned pieces go direct, an odd tail through the cache."""
        aligned = len(data) // PAGE_BYTES * PAGE_BYTES if self.is_direct and offset % PAGE_BYTES == 0 else 0
        try:
            for fd, piece, where in (
                (self._direct, data[:aligned], offset),
                (self._buffered, data[aligned:], offset + aligned),
            ):
                if piece:
                    self.before_write()
                    write_all(fd, piece, where)
        except OSError as error:
            raise self._error(error, f"write at {offset}") from error

    def zero(self, area: Extent) -> None:
        """Make an area read as zeros, durable after `flush`: quickly where that is known to work, else written."""
        self.before_write()
        for offset in range(self._zero_quickly(area), area.end, len(ZEROS)):
            self.write(ZEROS[: min(len(ZEROS), area.end - offset)], offset)

    def flush(self) -> None:
        """Make everything written so far durable."""
        try:
            os.fdatasync(self._buffered)
        except OSError as error:
            raise self._error(error, "fdatasync") from error

    def read(self, into: memoryview, offset: int, length: int) -> None:
        """Fill the first `length` bytes of `into` from the medium, not from the page cache.

        `into` is a whole page-aligned block and `offset` a multiple of a page; bytes after `length` are undefined.
        """
        wanted = -(-length // PAGE_BYTES) * PAGE_BYTES if self.is_direct else length
        try:
            if not self.is_direct:
                os.posix_fadvise(self._buffered, offset, length, os.POSIX_FADV_DONTNEED)
            done = 0
            while done < length:
                fd = self._direct if self.is_direct else self._buffered
                count = os.preadv(fd, [into[done:wanted]], offset + done)
                done += count
                # Reading on inside a sector would only be refused: a file that was cut there may have grown again.
                if count == 0 or (self.is_direct and done < length and done % _SECTOR_BYTES):
                    raise TemporaryError(
                        f"{self.path} ends at {offset + done}, not at {self.size_bytes}",
                        cure="see who cut the file, then run the step again",
                        code="target-short",
                    )
        except OSError as error:
            raise self._error(error, f"read at {offset}") from error

    def close(self) -> None:
        """Close the descriptors."""
        close_flushed(self._buffered)
        if self._direct >= 0:
            close_flushed(self._direct)

    @abstractmethod
    def _zero_quickly(self, area: Extent) -> int:
        """Make zeros from the area's start without writing them; returns the offset up to which that was done."""

    def _allocate(self, mode: int, area: Extent) -> OSError | None:
        """fallocate(2); what went wrong, if anything."""
        if _libc.fallocate(self._buffered, mode, area.offset, area.length) == 0:
            return None
        number = ctypes.get_errno()
        return OSError(number, os.strerror(number))

    def _open(self, flags: int) -> int:
        try:
            return os.open(self.path, flags | os.O_CLOEXEC, 0o660)
        except OSError as error:
            raise self._error(error, "open") from error

    def _error(self, error: OSError, deed: str) -> MtvError:
        return storage_error(error, where="target", what=f"{self.path}: {deed}")
