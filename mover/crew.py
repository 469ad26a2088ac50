"""A few threads that end together: the first failure stops all, and is what the caller sees."""

from __future__ import annotations

import threading
from collections.abc import Callable

from mover.halt import Halt

_TURN_S = 0.5


class Crew:
    """Start threads, then `join` them."""

    def __init__(self, halt: Halt) -> None:
        self._halt = halt
        self._threads: list[threading.Thread] = []
        self._failures: list[BaseException] = []

    def start(self, name: str, work: Callable[[], None]) -> None:
        """Run `work` in a thread; if it raises, or no thread can be had, the halt flag goes up and `join` says why."""
        thread = threading.Thread(target=self._run, args=(work,), name=name, daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            # Not raised here: those already at work must have ended before their files are closed.
            self._failures.append(error)
            self._halt.set()
        else:
            self._threads.append(thread)

    def join(self) -> None:
        """Wait for all; raise the first failure."""
        for thread in self._threads:
            # In turns: Python handles signals in its main thread only, and a signal that the kernel gave to another
            # thread, as it does to a process that was stopped and goes on, does not end the main thread's wait.
            while thread.is_alive():
                thread.join(_TURN_S)
        self._threads.clear()
        if self._failures:
            raise self._failures[0]

    def _run(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - handed to whoever joins
            self._failures.append(error)
            self._halt.set()
