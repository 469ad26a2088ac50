"""One running QEMU: start, press the power button, kill."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable

from .draft import Draft
from .host import wait_for_file
from .qmp import QmpError, execute

_BUTTON_EVERY_S = 5.0  # a guest that is still booting drops the first presses


class Guest:
    """QEMU for a prepared draft. ``pidfd`` becomes readable when it ends."""

    def __init__(self, draft: Draft, log: Callable[[str], None]) -> None:
        self._qmp = draft.places.run / "qmp"
        self._log = log
        self._asked_at: float | None = None
        self._next_press = 0.0
        self.how = "guest"  # what ended it: guest (by itself), acpi (after the button) or killed
        self._process = subprocess.Popen(draft.argv, stdin=subprocess.DEVNULL)
        self.pid = self._process.pid
        self.pidfd = os.pidfd_open(self.pid)
        if draft.links_down:
            self._pull_cables(draft.links_down)

    def shut_down(self, now: float, grace_s: float) -> float:
        """Ask the guest to end, kill it when its grace is over; seconds until this wants to be called again."""
        if self._asked_at is None:
            self._asked_at = now
        left = self._asked_at + grace_s - now
        if left <= 0:
            if self.how != "killed":
                self._log(f"the guest did not obey within its grace period of {grace_s:g} s: killed")
                self.how = "killed"
                self._process.kill()
            return 1.0
        if now >= self._next_press:
            self._next_press = now + _BUTTON_EVERY_S
            self._press()
        return min(left, max(self._next_press - now, 0.05))

    def wait(self) -> int:
        """Exit status of QEMU, which has ended."""
        code = self._process.wait(10)
        os.close(self.pidfd)
        return code

    def kill(self) -> None:
        """End it at once."""
        self.how = "killed"
        self._process.kill()

    def _press(self) -> None:
        try:
            execute(self._qmp, ("system_powerdown", {}))
            self.how = "acpi"
            self._log("ACPI power button pressed")
        except QmpError as why:
            self._log(f"ACPI power button: {why}")

    def _pull_cables(self, names: list[str]) -> None:
        if not wait_for_file(self._qmp, timeout_s=20):
            self._log("QEMU's control socket did not appear")
            self.kill()
            return
        pulls = [("set_link", {"name": name, "up": False}) for name in names]
        try:
            execute(self._qmp, *pulls, ("cont", {}))
            self._log(f"cable pulled before the guest starts: {', '.join(names)}")
        except QmpError as why:
            self._log(f"cannot pull cables, so the guest is not started: {why}")
            self.kill()
