"""Power operations: the guest is asked first, every wait ends, and success is what vCenter says afterwards."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from pyVmomi import vim

from mtv.model.errors import MtvError, PermanentError, TemporaryError
from mtv.model.source import PowerState
from mtv.providers.power import PowerOfVms, refuse_unless_on
from mtv.providers.vmware.build import power_state
from mtv.providers.vmware.collect import objects, vm_reference
from mtv.providers.vmware.faults import translate
from mtv.providers.vmware.session import Api, Session

TASK_TIMEOUT_S = 180.0


class Power(PowerOfVms[Session]):
    """Power of the VMs of one session."""

    POLL_S = 0.5

    def state(self, vm_id: str, name: str) -> PowerState:
        """Read the power state now. Raises `PermanentError` when the VM is gone."""
        return power_state(self._read(vm_id, name, ("runtime.powerState",)).get("runtime.powerState"))

    def off(self, vm_id: str, name: str, *, timeout_s: float) -> str:
        """Shut the guest down if its tools run, power off after `timeout_s`; return how it ended.

        A suspended VM is refused: powering it off would throw away what its memory still holds.
        """
        seen = self._read(vm_id, name, ("runtime.powerState", "guest.toolsRunningStatus"))
        state = power_state(seen.get("runtime.powerState"))
        if state is PowerState.OFF:
            return "already off"
        refuse_unless_on(name, state)
        asked = str(seen.get("guest.toolsRunningStatus", "")) == "guestToolsRunning" and self._ask_guest(vm_id, name)
        if asked and self._wait_for(vm_id, name, PowerState.OFF, timeout_s):
            return "guest shutdown"
        return self._cut(vm_id, name)

    def on(self, vm_id: str, name: str) -> None:
        """Power on and wait until vCenter says so; a VM that is on already is left alone."""
        if self.state(vm_id, name) is PowerState.ON:
            return
        self._task(lambda api: vm_reference(api, vm_id).PowerOnVM_Task(), doing=f"power on {name}")
        if not self._wait_for(vm_id, name, PowerState.ON, TASK_TIMEOUT_S):
            raise TemporaryError(f"{self.session.where}: {name} is still not on", code="StillOff")

    def _ask_guest(self, vm_id: str, name: str) -> bool:
        def ask(api: Api) -> bool:
            try:
                vm_reference(api, vm_id).ShutdownGuest()
            except (vim.fault.ToolsUnavailable, vim.fault.InvalidState):
                return False  # the tools stopped, or the guest went down by itself: the state read next tells
            return True

        return self.session.run(ask, doing=f"shut down the guest of {name}")

    def _cut(self, vm_id: str, name: str) -> str:
        if self.state(vm_id, name) is PowerState.OFF:
            return "guest shutdown"
        try:
            self._task(lambda api: vm_reference(api, vm_id).PowerOffVM_Task(), doing=f"power off {name}")
        except MtvError:
            # The guest may have finished its shutdown in this very moment; only the state decides.
            if self.state(vm_id, name) is PowerState.OFF:
                return "guest shutdown"
            raise
        if not self._wait_for(vm_id, name, PowerState.OFF, TASK_TIMEOUT_S):
            raise TemporaryError(f"{self.session.where}: {name} is still on after a power off", code="StillOn")
        return "power off"

    def _task(self, start: Callable[[Api], Any], *, doing: str) -> None:
        task = self.session.run(start, doing=doing)
        deadline = time.monotonic() + TASK_TIMEOUT_S
        while True:
            info = self._task_info(task, doing)
            if info.get("info.state") == vim.TaskInfo.State.success:
                return
            if info.get("info.state") == vim.TaskInfo.State.error:
                raise translate(info["info.error"], where=self.session.where, doing=doing)
            if time.monotonic() >= deadline:
                raise TemporaryError(
                    f"{self.session.where}: the task to {doing} has not ended after {TASK_TIMEOUT_S:.0f} s",
                    code="TaskTimeout",
                )
            time.sleep(self.POLL_S)

    def _task_info(self, task: Any, doing: str) -> dict[str, Any]:
        found = self.session.run(lambda api: objects(api, [task], ("info.state", "info.error")), doing=doing)
        if not found:
            raise TemporaryError(f"{self.session.where}: the task to {doing} has vanished", code="TaskGone")
        return found[0].properties

    def _read(self, vm_id: str, name: str, paths: Sequence[str]) -> dict[str, Any]:
        found = self.session.run(
            lambda api: objects(api, [vm_reference(api, vm_id)], paths), doing=f"read the power state of {name}"
        )
        if not found:
            raise PermanentError(
                f"{self.session.where}: {name} ({vm_id}) no longer exists",
                cure="take the inventory again",
                code="ObjectGone",
            )
        return found[0].properties
