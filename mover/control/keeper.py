"""What keeps a session, a lease or a ticket alive: a deed that is done again and again in the background."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Keeper:
    """Does `deed` every `every_s` seconds in a thread of its own, until `stop` is set. It deals with its own errors."""

    def __init__(self, name: str, deed: Callable[[], None], *, every_s: float, stop: threading.Event) -> None:
        self._name = name
        self._deed = deed
        self._every_s = every_s
        self._stop = stop
        self._thread: threading.Thread | None = None

    def ensure_running(self) -> None:
        """Start it if it does not run, or not any more; one caller at a time."""
        if self._stop.is_set() or (self._thread is not None and self._thread.is_alive()):
            return
        self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(self._every_s):
            self._deed()
