"""Who may write: an exclusive lock on the VM's work volume, and an epoch that fences off an older mover.

The file `lock` holds the epoch of its holder and is flock()ed while the holder lives. Somebody with the same or an
older epoch is refused. Somebody with a newer epoch writes it into the file: the holder sees it before its next write
and ends. If the holder does not end in time (frozen, node unreachable), the file is replaced by a new one: a holder
that wakes later finds another inode under the name and ends before its next write.

Windows remain, as with every lock beside the storage. A holder frozen between its check and the write that follows, a
few microseconds, can still do that one write; a full read-back by the newer mover sees it if it comes before. And on a
network filesystem whose client caches attributes, a takeover on another node is seen only when that cache expires.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mover.failure import VolumeHeld, storage_error, would_overwrite
from mover.positioned import close_flushed

LOCK_NAME = "lock"
_POLL_S = 0.05
_WIDTH = 20


class WorkLock:
    """The held lock. `check()` before every write."""

    def __init__(self, path: Path, fd: int, epoch: int) -> None:
        self.path = path
        self.epoch = epoch
        self._fd = fd
        self._inode = os.fstat(fd).st_ino

    def check(self) -> None:
        """Return if we may still write, else raise `VolumeHeld`; if that cannot be told, a storage error."""
        try:
            is_there = _inode_at(self.path) == self._inode
            newest = self._newest_epoch(is_there=is_there)
        except OSError as error:
            raise storage_error(error, where="work-volume", what=f"look at lock {self.path}") from error
        if not is_there or newest > self.epoch:
            raise VolumeHeld(
                f"a newer mover (epoch {newest if newest > self.epoch else 'unknown'}) took over the work volume;"
                f" this one (epoch {self.epoch}) stopped before its next write",
                code="volume-held",
            )

    def _newest_epoch(self, *, is_there: bool) -> int:
        try:
            return _read_epoch(self._fd)
        except OSError:
            if is_there:
                raise
            return -1  # of a file that was replaced a server may know nothing any more (ESTALE)

    def release(self) -> None:
        """Let the next mover in. The epoch stays in the file, so that an older one is refused later too."""
        close_flushed(self._fd)


def refuse_other_lock(path: Path) -> None:
    """Raise `PermanentError` (code lock) for a file that would be overwritten as a lock and is none.

    For paths that people give. One that a power cut has left empty or full of zeros may be a lock.
    """
    try:
        held = path.read_bytes() if path.is_file() and path.stat().st_size <= _WIDTH else None
        is_lock = not path.exists() if held is None else not held.strip(b" \n\0") or held.strip().isdigit()
    except OSError as error:
        raise storage_error(error, where="work-volume", what=f"look at lock {path}") from error
    if not is_lock:
        raise would_overwrite(path, "lock")


@contextmanager
def work_lock(
    work_dir: Path, epoch: int, *, takeover_wait_s: float = 30.0, name: str = LOCK_NAME
) -> Iterator[WorkLock]:
    """Hold the work volume while the block runs; `VolumeHeld` if another mover has it (see the module's text)."""
    try:
        lock = _acquire(work_dir / name, epoch, takeover_wait_s)
    except OSError as error:
        raise storage_error(error, where="work-volume", what=f"lock {work_dir / name}") from error
    try:
        yield lock
    finally:
        lock.release()


def _acquire(path: Path, epoch: int, takeover_wait_s: float) -> WorkLock:
    deadline = time.monotonic() + takeover_wait_s
    claimed = False
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        kept = False
        try:
            free = _try_flock(fd)
            newest = _read_epoch(fd)
            if newest > epoch:
                raise VolumeHeld(
                    f"the work volume belongs to epoch {newest}, this mover has the older epoch {epoch}",
                    cure="nothing: the newer mover goes on",
                    code="volume-held",
                )
            if free and _is_current(path, fd):
                _write_epoch(fd, epoch)
                kept = True
                return WorkLock(path, fd, epoch)
            if not free:
                if newest == epoch and not claimed:
                    raise VolumeHeld(
                        f"another mover of epoch {epoch} holds the work volume",
                        cure="wait until its pod is gone, or start with a newer epoch",
                        code="volume-held",
                    )
                # Said again at every turn: of two claimants the one with the newer epoch must win.
                _write_epoch(fd, epoch)
                claimed = True
        finally:
            if not kept:
                os.close(fd)
        if time.monotonic() >= deadline:
            return _replace(path, epoch)
        time.sleep(_POLL_S)


def _replace(path: Path, epoch: int) -> WorkLock:
    """Put a new lock file in the place of one whose holder does not answer."""
    fresh = path.with_name(f"{path.name}.{epoch}")
    fd = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    if not _try_flock(fd):
        os.close(fd)
        raise VolumeHeld(f"another mover of epoch {epoch} is taking over the work volume", code="volume-held")
    _write_epoch(fd, epoch)
    fresh.rename(path)
    return WorkLock(path, fd, epoch)


def _try_flock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        raise
    return True


def _is_current(path: Path, fd: int) -> bool:
    return _inode_at(path) == os.fstat(fd).st_ino


def _inode_at(path: Path) -> int:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return -1


def _read_epoch(fd: int) -> int:
    text = os.pread(fd, _WIDTH, 0).strip()
    return int(text) if text.isdigit() else -1


def _write_epoch(fd: int, epoch: int) -> None:
    os.pwrite(fd, f"{epoch:>{_WIDTH - 1}}\n".encode(), 0)
    os.fdatasync(fd)
