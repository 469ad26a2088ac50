"""Keeps KubeVirt's components running, as the cluster's Deployments would: `python -m lab.kubevirt.supervisor FILE`.

FILE is JSON: {"components": [{"name": ..., "argv": [...], "log": path, "env": {...}}]}. A component that ends is
started again after a pause (virt-controller ends on purpose when CDI's definitions appear). One that ends too often
takes all others with it: a lab that does not work must not look alive. Components die with the supervisor.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

_PAUSES_S = (0.5, 1.0, 2.0, 4.0)
_TOO_OFTEN = 5  # ends …
_WITHIN_S = 60.0  # … within this time
_GRACE_S = 8.0
_PR_SET_PDEATHSIG = 1


@dataclass
class Component:
    """One process, and when it has ended lately."""

    name: str
    argv: list[str]
    log: Path
    env: dict[str, str]
    process: subprocess.Popen[bytes] | None = None
    start_at: float = 0.0
    ends: deque[float] = field(default_factory=lambda: deque(maxlen=_TOO_OFTEN))

    def start(self) -> None:
        """Start it; its output goes to its log."""
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                self.argv,
                env={**os.environ, **self.env},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                preexec_fn=_die_with_parent,
            )

    def fails_too_often(self, now: float) -> bool:
        """Note an end; True if there were too many lately."""
        self.ends.append(now)
        self.start_at = now + _PAUSES_S[min(len(self.ends), len(_PAUSES_S)) - 1]
        return len(self.ends) == _TOO_OFTEN and now - self.ends[0] < _WITHIN_S


class Supervisor:
    """Starts components, and starts them again, until it is told to stop."""

    def __init__(self, components: list[Component]) -> None:
        self._components = components
        self._stopping = False

    def stop(self, _signal: int, _frame: FrameType | None) -> None:
        """Signal handler."""
        self._stopping = True

    def run(self) -> int:
        """0 when told to stop, 1 when a component failed too often."""
        try:
            while not self._stopping:
                if not self._look_after_all():
                    return 1
                time.sleep(0.1)
            return 0
        finally:
            self._end_all()

    def _look_after_all(self) -> bool:
        now = time.monotonic()
        for component in self._components:
            if component.process is None:
                if now >= component.start_at:
                    component.start()
                    _log(f"{component.name} started")
            elif (code := component.process.poll()) is not None:
                component.process = None
                _log(f"{component.name} ended with {code}")
                if component.fails_too_often(now):
                    _log(f"{component.name} ended {_TOO_OFTEN} times within {_WITHIN_S:g} s: giving up, all end")
                    return False
        return True

    def _end_all(self) -> None:
        running = [component.process for component in self._components if component.process is not None]
        for process in running:
            process.terminate()
        end = time.monotonic() + _GRACE_S
        for process in running:
            try:
                process.wait(max(end - time.monotonic(), 0.1))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _log(text: str) -> None:
    print(time.strftime("%H:%M:%S"), text, flush=True)


def main() -> int:
    """Entry point."""
    document: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text())
    components = [Component(c["name"], c["argv"], Path(c["log"]), c["env"]) for c in document["components"]]
    supervisor = Supervisor(components)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, supervisor.stop)
    return supervisor.run()


if __name__ == "__main__":
    sys.exit(main())
