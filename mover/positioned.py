"""Writing at an offset, all of it: the system may take less than it was given."""

from __future__ import annotations

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
