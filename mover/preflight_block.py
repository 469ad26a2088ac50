"""Proves that this process, as whoever it runs, can use a block device the way a transfer does.

It opens the device, writes one page with O_DIRECT, reads it back past the cache and puts the old bytes back.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

import msgspec

from mover.buffers import PAGE_BYTES, block_buffer
from mover.failure import storage_error
from mtv.model.errors import PermanentError


class BlockPreflight(msgspec.Struct, frozen=True, kw_only=True):
    """What was proven, and as whom."""

    path: str
    size_bytes: int
    uid: int
    gid: int
    ok: bool = True


def preflight_block(path: Path) -> BlockPreflight:
    """The proof; an `MtvError` says what this user cannot do."""
    what = f"{path} as user {os.geteuid()}, group {os.getegid()}"
    try:
        if not stat.S_ISBLK(path.stat().st_mode):
            raise PermanentError(
                f"{path} is not a block device", cure="check the claim's volumeMode", code="target-not-a-device"
            )
        fd = os.open(path, os.O_RDWR | os.O_DIRECT | os.O_CLOEXEC)
    except OSError as error:
        raise storage_error(error, where="target", what=f"open {what}") from error
    try:
        size = os.lseek(fd, 0, os.SEEK_END)
        _write_and_restore(fd, what)
    except OSError as error:
        raise storage_error(error, where="target", what=f"O_DIRECT on {what}") from error
    finally:
        os.close(fd)
    return BlockPreflight(path=str(path), size_bytes=size, uid=os.geteuid(), gid=os.getegid())


def _write_and_restore(fd: int, what: str) -> None:
    before, pattern, found = (block_buffer()[:PAGE_BYTES] for _ in range(3))
    os.preadv(fd, [before], 0)
    pattern[:] = os.urandom(PAGE_BYTES)
    try:
        os.pwritev(fd, [pattern], 0)
        os.fdatasync(fd)
        os.preadv(fd, [found], 0)
    finally:
        os.pwritev(fd, [before], 0)
        os.fdatasync(fd)
    if bytes(found) != bytes(pattern):
        raise PermanentError(f"{what}: what was written is not what is read back", code="target-mismatch")
