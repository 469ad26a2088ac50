"""What the medium alone allows: so many bytes written, flushed and read again, past the page cache, by nobody who has
anything else to do. No copy that reads back what it wrote can be faster, whatever it does in between.
"""

from __future__ import annotations

import mmap
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

_STEP = 4 << 20
_AT_ONCE = 2


def seconds_to_write_and_read(path: Path, count: int) -> float:
    """Wall seconds to make `count` bytes durable in a new file at `path` and to read them back from there."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_DIRECT | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(fd, count)
        began = time.monotonic()
        _everywhere(count, lambda buffer, offset: os.pwrite(fd, buffer, offset))
        os.fdatasync(fd)
        _everywhere(count, lambda buffer, offset: os.preadv(fd, [buffer], offset))
        return time.monotonic() - began
    finally:
        os.close(fd)


def _everywhere(count: int, act: Callable[[memoryview, int], int]) -> None:
    """Call `act` with a buffer of noise and every offset, from several threads; all must do all of it."""
    done: list[int] = []

    def work(first: int) -> None:
        buffer = memoryview(mmap.mmap(-1, _STEP))
        buffer[:] = os.urandom(_STEP)
        done.extend(act(buffer, offset) for offset in range(first * _STEP, count, _STEP * _AT_ONCE))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(_AT_ONCE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(done) == count, f"{sum(done)} of {count} bytes"
