"""A file on a filesystem claim, kept sparse."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

from mover.geometry import Extent
from mover.journal import sync_folder
from mover.targets.base import Target


class FileTarget(Target):
    """A regular file of exactly the disk's size; created if it is not there."""

    holes_are_zeros = True

    @property
    def mark(self) -> str:
        """The inode: a file made anew under the same name never inherits a journal."""
        return f"inode {os.fstat(self._buffered).st_ino}"

    @property
    def is_intact(self) -> bool:
        """Whether it has its full length."""
        return os.fstat(self._buffered).st_size == self.size_bytes

    def prepare(self) -> None:
        """Give up all old content; what the file system then promises is zeros."""
        try:
            os.ftruncate(self._buffered, 0)
            os.ftruncate(self._buffered, self.size_bytes)
            os.fsync(self._buffered)
            sync_folder(self.path.parent)
        except OSError as error:
            raise self._error(error, f"make it {self.size_bytes} bytes long") from error

    def areas_to_check(self, area: Extent) -> Iterator[Extent]:
        """What is allocated inside the area; the rest are holes and hold nothing."""
        position = area.offset
        while position < area.end:
            try:
                start = os.lseek(self._buffered, position, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:
                    return  # no data up to the end of the file
                raise self._error(error, "SEEK_DATA") from error
            if start >= area.end:
                return
            end = min(os.lseek(self._buffered, start, os.SEEK_HOLE), area.end)
            yield Extent(start, end - start)
            position = end

    def _open(self, flags: int) -> int:
        return super()._open(flags | os.O_CREAT)
