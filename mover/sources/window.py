"""A range of a local file as if it were a file of its own: an OVA's member, a disk image, a device."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable
from pathlib import Path

from mover.failure import storage_error
from mover.geometry import Extent, merged
from mtv.model.errors import PermanentError
from mtv.model.transfer import FileRange

_HASH_STEP_BYTES = 4 << 20
_KNOWN_HASHES = ("sha256", "sha1", "sha512")


class Window:
    """`length` bytes at `offset` of `path`. Reads are exact: fewer bytes than asked for is an error.

    `version` is the size and the modification time (ns) of the whole file when it was opened, `generation` what tells
    the file from others at its path (see `generation_of`).
    """

    def __init__(self, path: Path, offset: int, length: int) -> None:
        self.path = path
        self.files: tuple[Path, ...] = (path,)
        self.offset = offset
        self.length = length
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            size = os.lseek(self._fd, 0, os.SEEK_END)
            info = os.fstat(self._fd)
            self.version, self.generation = _version_of(info), generation_of(info)
        except OSError as error:
            raise storage_error(error, where="source", what=f"open {path}") from error
        if offset < 0 or length < 0 or offset + length > size:
            os.close(self._fd)
            raise PermanentError(
                f"{path} is truncated: {size} bytes, but its member lies at {offset} with {length} bytes",
                cure="fetch the file again",
                code="source-truncated",
            )

    @classmethod
    def of(cls, where: FileRange) -> Window:
        """The window that a spec names."""
        return cls(Path(where.path), where.offset, where.length)

    def data_extents(self) -> list[Extent]:
        """What the file system says is data, in offsets of the window. A device cannot say: all of it."""
        found: list[Extent] = []
        position, end = self.offset, self.offset + self.length
        while position < end:
            try:
                start = os.lseek(self._fd, position, os.SEEK_DATA)
                stop = os.lseek(self._fd, start, os.SEEK_HOLE)
            except OSError as error:
                if error.errno == errno.ENXIO:
                    break  # a hole up to the end
                if error.errno in (errno.EINVAL, errno.ENOTSUP):
                    return [Extent(0, self.length)]
                raise storage_error(error, where="source", what=f"look for holes in {self.path}") from error
            found.append(Extent(start - self.offset, stop - start))
            position = stop
        return merged(found, self.length)

    def read(self, length: int, offset: int) -> bytes:
        """`length` bytes at `offset` of the window."""
        self._within(length, offset)
        pieces: list[bytes] = []
        done = 0
        while done < length:
            try:
                piece = os.pread(self._fd, length - done, self.offset + offset + done)
            except OSError as error:
                raise storage_error(error, where="source", what=f"read {self.path}") from error
            if not piece:
                raise self._cut_short(offset + done)
            pieces.append(piece)
            done += len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def read_into(self, view: memoryview, offset: int) -> None:
        """Fill `view` from `offset` of the window."""
        self._within(len(view), offset)
        done = 0
        while done < len(view):
            try:
                count = os.preadv(self._fd, [view[done:]], self.offset + offset + done)
            except OSError as error:
                raise storage_error(error, where="source", what=f"read {self.path}") from error
            if not count:
                raise self._cut_short(offset + done)
            done += count

    def check(self, checksum: str, should_stop: Callable[[], bool]) -> str:
        """Compare all bytes with `<algorithm>:<hex>`; returns it when they agree, "" when told to stop.

        A file that was written to since it was opened does not agree, whatever its bytes are now: others may have been
        read before.
        """
        name, _, expected = checksum.partition(":")
        if name not in _KNOWN_HASHES:
            raise PermanentError(
                f"checksum kind {name!r} is not known",
                cure=f"use one of {', '.join(_KNOWN_HASHES)}",
                code="source-checksum-kind",
            )
        hasher = hashlib.new(name, usedforsecurity=False)
        for offset in range(0, self.length, _HASH_STEP_BYTES):
            if should_stop():
                return ""
            hasher.update(self.read(min(_HASH_STEP_BYTES, self.length - offset), offset))
        found = hasher.hexdigest()
        if found != expected.lower():
            raise PermanentError(
                f"{self.path}: the manifest says {name} {expected}, the file has {found}",
                cure="the file is damaged: fetch it again",
                code="source-checksum",
            )
        try:
            version = _version_of(os.fstat(self._fd))
        except OSError as error:
            raise storage_error(error, where="source", what=f"look at {self.path}") from error
        if version != self.version:
            raise PermanentError(
                f"{self.path} was written to while it was copied",
                cure="wait until the file is complete, then start again",
                code="source-checksum",
            )
        return f"{name}:{found}"

    def forget(self) -> None:
        """Drop the window's bytes from the page cache."""
        os.posix_fadvise(self._fd, self.offset, self.length, os.POSIX_FADV_DONTNEED)

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)

    def _within(self, length: int, offset: int) -> None:
        if offset < 0 or offset + length > self.length:
            raise PermanentError(
                f"{self.path}: {length} bytes at {offset} lie outside of its {self.length} bytes",
                cure="the file is damaged or truncated: fetch it again",
                code="source-truncated",
            )

    def _cut_short(self, offset: int) -> PermanentError:
        return PermanentError(
            f"{self.path} ended at {offset} while it was read", cure="fetch the file again", code="source-truncated"
        )


def generation_of(info: os.stat_result) -> str:
    """Size, modification time and change time (ns): the last is the kernel's own, which `cp -p` and `rsync -t` cannot
    keep. It also changes with the mode and the owner.
    """
    return f"{_version_of(info)}:{info.st_ctime_ns}"


def _version_of(info: os.stat_result) -> str:
    return f"{info.st_size}:{info.st_mtime_ns}"


def refuse_unsized(path: Path) -> None:
    """Raise `PermanentError` for what is no regular file or block device: a pipe would never end. Raises `OSError`."""
    mode = path.stat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
        raise PermanentError(
            f"{path} is neither a file nor a block device",
            cure="name the disk's own file",
            code="source-unsuitable",
        )


def whole_file(path: Path) -> Window:
    """All of a regular file or block device; anything else is refused."""
    try:
        refuse_unsized(path)
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            size = os.lseek(fd, 0, os.SEEK_END)
        finally:
            os.close(fd)
    except OSError as error:
        raise storage_error(error, where="source", what=f"open {path}") from error
    return Window(path, 0, size)
