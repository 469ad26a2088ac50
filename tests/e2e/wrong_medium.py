"""A medium that keeps one byte wrong, whatever is written to it.

The kernel (fanotify) holds everybody who reads a file of the folder, in a pod or not, until the byte is wrong again.
Should this process end, the kernel lets all of them go.
"""

from __future__ import annotations

import ctypes
import os
import select
import struct
import tempfile
from pathlib import Path

from tests.e2e.watchers import RepeatingThread

_CLASS_CONTENT, _CLOEXEC, _NONBLOCK = 0x4, 0x1, 0x2
_MARK_ADD = 0x1
_ACCESS_PERM = 0x20000
_EVENT_ON_CHILD = 0x08000000
_ALLOW = 1
_AT_FDCWD = -100
_EVENT = struct.Struct("=IBBHQii")  # length, version, reserved, length of this header, mask, descriptor, process
_ANSWER = struct.Struct("=iI")  # descriptor, answer
_EVENTS_BYTES = 4096
_POLL_MS = 50

_libc = ctypes.CDLL(None, use_errno=True)
_libc.fanotify_init.argtypes = (ctypes.c_uint, ctypes.c_uint)
_libc.fanotify_mark.argtypes = (ctypes.c_int, ctypes.c_uint, ctypes.c_uint64, ctypes.c_int, ctypes.c_char_p)


class WrongMedium(RepeatingThread):
    """While this is entered, a read of any file in `folder` never finds `good` at `offset`, but its complement.

    `flips` counts how often `good` was written there and made wrong. Raises `OSError` where no reader can be held.
    """

    pause_s = 0  # it waits for events

    def __init__(self, folder: Path, offset: int, good: int) -> None:
        super().__init__()
        self._offset, self._good, self._wrong = offset, bytes([good]), bytes([good ^ 0xFF])
        self.flips = 0
        self._group = _readers_of(folder)
        self._poll = select.poll()
        self._poll.register(self._group, select.POLLIN)

    def look(self) -> None:
        """Wait a moment for readers that are held, spoil the byte before them and let them go."""
        if not self._poll.poll(_POLL_MS):
            return
        events = os.read(self._group, _EVENTS_BYTES)
        while events:
            length, _, _, _, _, file, _ = _EVENT.unpack_from(events)
            events = events[length:]
            try:
                self._spoil(file)
            finally:
                os.write(self._group, _ANSWER.pack(file, _ALLOW))
                os.close(file)

    def _spoil(self, file: int) -> None:
        # What is done with a descriptor that came with an event raises no events.
        if os.pread(file, 1, self._offset) == self._good:
            os.pwrite(file, self._wrong, self._offset)
            self.flips += 1

    def _run(self) -> None:
        try:
            super()._run()
        finally:
            os.close(self._group)  # nobody is held any more, even if looking failed


def why_no_reader_can_be_held() -> str:
    """Return what this machine or user lacks for a `WrongMedium`; empty if it lacks nothing."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            os.close(_readers_of(Path(folder)))
        except OSError as error:
            return f"fanotify holds no readers here ({error.strerror}): needs root, CONFIG_FANOTIFY_ACCESS_PERMISSIONS"
    return ""


def _readers_of(folder: Path) -> int:
    """Return a descriptor that tells of each read of a file in the folder before it is done."""
    group = _checked(_libc.fanotify_init(_CLASS_CONTENT | _CLOEXEC | _NONBLOCK, os.O_RDWR | os.O_CLOEXEC))
    try:
        events = _ACCESS_PERM | _EVENT_ON_CHILD
        _checked(_libc.fanotify_mark(group, _MARK_ADD, events, _AT_FDCWD, os.fsencode(folder)))
    except OSError:
        os.close(group)
        raise
    return group


def _checked(answer: int) -> int:
    if answer < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return answer
