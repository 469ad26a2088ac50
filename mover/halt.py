"""The wish to stop: of the whole process (SIGTERM) or of one disk (its copy failed)."""

from __future__ import annotations

import threading


class Halt:
    """A flag that is also up when its parent's is."""

    def __init__(self, parent: Halt | None = None) -> None:
        self._event = threading.Event()
        self._parent = parent

    def set(self) -> None:
        """Raise the flag; it never goes down."""
        self._event.set()

    def is_set(self) -> bool:
        """Whether to stop."""
        return self._event.is_set() or (self._parent is not None and self._parent.is_set())

    def wait(self, timeout_s: float) -> bool:
        """Sleep, but not longer than until the flag is up (looked at every 0.2 s). Returns `is_set()`."""
        step = 0.2
        while timeout_s > 0 and not self.is_set():
            self._event.wait(min(step, timeout_s))
            timeout_s -= step
        return self.is_set()
