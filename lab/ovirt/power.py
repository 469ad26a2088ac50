"""Power of VMs: start, shutdown, stop. States change when somebody looks, as time passes on a real engine."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from ovirtsdk4 import types

_Status = types.VmStatus


class Power:
    """Switches the VMs of an estate. `deaf` holds ids of VMs whose guests ignore a shutdown."""

    def __init__(self) -> None:
        self.deaf: set[str] = set()
        self.asked: list[tuple[str, str]] = []
        """Every action that was asked for, with the VM's id, in order."""

    def look(self, vm: Any) -> None:
        """Time has passed for this VM."""
        if vm.status == _Status.POWERING_UP:
            vm.status = _Status.UP
        elif vm.status == _Status.POWERING_DOWN and vm.id not in self.deaf:
            self._off(vm)

    def act(self, vm: Any, action: str) -> str:
        """Do the action; why it cannot be done, "" if it was."""
        self.asked.append((action, vm.id))
        if action == "start":
            if vm.status != _Status.DOWN:
                return f"Cannot run VM. VM {vm.name} is running."
            vm.status, vm.start_time = _Status.POWERING_UP, datetime.now(UTC)
            return ""
        if vm.status == _Status.DOWN:
            return f"Cannot {action} VM. VM is not running."
        if action == "shutdown":
            vm.status = _Status.POWERING_DOWN
        else:
            self._off(vm)
        return ""

    @staticmethod
    def _off(vm: Any) -> None:
        vm.status, vm.stop_time, vm.host = _Status.DOWN, datetime.now(UTC), None
