"""A file on a filesystem claim, kept sparse, or preallocated on demand."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from pathlib import Path

from mover.geometry import Extent
from mover.journal import sync_folder
from mover.targets.base import KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE, Target
from mtv.model.errors import PermanentError

_FS_IOC_GETVERSION = 0x80087601
"""Asks for an inode's generation: ext4, XFS, Btrfs and F2FS give one; NFS and tmpfs do not."""


class FileTarget(Target):
    """A regular file of exactly the disk's size; created if it is not there.

    Preallocated, all of its space is reserved before the copy begins: it then cannot run out of room half-way, and
    zeros keep their space.
    """

    holes_are_zeros = True

    def __init__(self, path: Path, size_bytes: int, *, preallocate: bool = False) -> None:
        super().__init__(path, size_bytes)
        self.preallocate = preallocate
        self._generation = _generation(self._buffered)
        self.is_recognizable = self._generation is not None

    @property
    def mark(self) -> str:
        """The inode and its generation: a file made anew under the same name never inherits a journal, although file
        systems give the same inode number out again.
        """
        inode = f"inode {self._stat().st_ino}"
        return inode if self._generation is None else f"{inode} generation {self._generation}"

    @property
    def is_intact(self) -> bool:
        """Whether it has its full length."""
        return self._stat().st_size == self.size_bytes

    def prepare(self) -> None:
        """Give up all old content; what the file system then promises is zeros."""
        self.before_write()
        try:
            os.ftruncate(self._buffered, 0)
            os.ftruncate(self._buffered, self.size_bytes)
            if self.preallocate:
                self._reserve()
            os.fsync(self._buffered)
            sync_folder(self.path.parent)
        except OSError as error:
            raise self._error(error, f"make it {self.size_bytes} bytes long") from error

    def areas_to_check(self, area: Extent) -> Iterator[Extent]:
        """What holds data inside the area; the rest are holes, or reserved space, and hold nothing."""
        position = area.offset
        while position < area.end:
            try:
                start = os.lseek(self._buffered, position, os.SEEK_DATA)
                if start >= area.end:
                    return
                end = min(os.lseek(self._buffered, start, os.SEEK_HOLE), area.end)
            except OSError as error:
                if error.errno == errno.ENXIO:
                    return  # no data up to the end of the file
                raise self._error(error, "SEEK_DATA") from error
            yield Extent(start, end - start)
            position = end

    def _zero_quickly(self, area: Extent) -> int:
        mode = ZERO_RANGE if self.preallocate else PUNCH_HOLE
        return area.offset if self._allocate(mode | KEEP_SIZE, area) else area.end

    def _stat(self) -> os.stat_result:
        try:
            return os.fstat(self._buffered)
        except OSError as error:
            raise self._error(error, "look at it") from error

    def _reserve(self) -> None:
        error = self._allocate(0, Extent(0, self.size_bytes))
        if error is None:
            return
        if error.errno == errno.EOPNOTSUPP:
            raise PermanentError(
                f"{self.path}: this filesystem cannot reserve space for a file",
                cure="leave preallocate off, or use another storage class",
                code="target-cannot-preallocate",
            ) from error
        raise error

    def _open(self, flags: int) -> int:
        return super()._open(flags | os.O_CREAT)


def _generation(fd: int) -> int | None:
    try:
        answer = fcntl.ioctl(fd, _FS_IOC_GETVERSION, bytes(8))
    except OSError:
        return None  # this filesystem has none, or does not tell
    return int(struct.unpack_from("=I", answer)[0])
