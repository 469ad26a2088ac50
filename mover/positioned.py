"""Writing at an offset, all of it: the system may take less than it was given. And the end of such writing."""

from __future__ import annotations

import contextlib
import errno
import os


def write_all(fd: int, data: memoryview, offset: int) -> None:
    """Write all of `data` at `offset`; raises `OSError`, also when the system takes nothing without saying why."""
    done = 0
    while done < len(data):
        count = os.pwrite(fd, data[done:], offset + done)
        if count <= 0:
            raise OSError(errno.EIO, "nothing was written")
        done += count


def close_flushed(fd: int) -> None:
    """Close a file of which all that counts was flushed.

    Network filesystems keep an error of a write for the close. It tells nothing new, and must not take the place of
    what the flush said.
    """
    with contextlib.suppress(OSError):
        os.close(fd)
