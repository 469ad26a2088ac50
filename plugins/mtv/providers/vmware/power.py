"""Power of VMs by vCenter's tasks."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pyVmomi import vim

from mtv.model.errors import MtvError, PermanentError, TemporaryError
from mtv.model.source import PowerState, SourceVm
from mtv.providers.power import Answer, PowerOfVms
from mtv.providers.vmware.build import power_state
from mtv.providers.vmware.collect import objects, vm_reference
from mtv.providers.vmware.faults import translate
from mtv.providers.vmware.session import Api, Session

_UUIDS = ("config.instanceUuid", "config.uuid")


class Power(PowerOfVms[Session]):
    """Power of the VMs of one session."""

    POLL_S = 0.5

    def state(self, vm_id: str, name: str) -> PowerState:
        """Read the power state now. Raises `PermanentError` when the VM is gone."""
        return power_state(self._read(vm_id, name, ("runtime.powerState",)).get("runtime.powerState"))

    def state_of(self, vm: SourceVm) -> PowerState:
        """Read the power state now. Raises `PermanentError` when the VM is gone, or as `require_same` does."""
        seen = self._read(vm.id, vm.name, ("runtime.powerState", *_UUIDS))
        self._refuse_other(vm, seen)
        return power_state(seen.get("runtime.powerState"))

    def require_same(self, vm: SourceVm) -> None:
        """Raise `PermanentError` when the VM's id leads to another VM than the one that was read.

        The instance UUID tells, or the BIOS UUID where that was not read; what vCenter does not tell tells nothing.
        """
        self._refuse_other(vm, self._read(vm.id, vm.name, _UUIDS))

    def _refuse_other(self, vm: SourceVm, seen: Mapping[str, Any]) -> None:
        for path, before in zip(_UUIDS, (vm.document.get("instanceUuid"), vm.uuid), strict=True):
            now = seen.get(path)
            if before and now:
                if str(now).lower() != str(before).lower():
                    raise PermanentError(
                        f"{self.session.where}: {vm.id} is another VM than {vm.name} (UUID {now} instead of {before})",
                        cure="point the connection at the vCenter that the VM was read from; nothing was touched",
                        code="OtherVm",
                    )
                return

    def _ask_guest(self, vm_id: str, name: str) -> Answer:
        seen = self._read(vm_id, name, ("guest.toolsRunningStatus",))
        status = str(seen.get("guest.toolsRunningStatus", ""))
        if status == "guestToolsExecutingScripts":  # the tools are starting, or run a script of a power operation
            return Answer.NOT_NOW
        if status != "guestToolsRunning":
            return Answer.NEVER

        def ask(api: Api) -> Answer:
            try:
                vm_reference(api, vm_id).ShutdownGuest()
            except (vim.fault.ToolsUnavailable, vim.fault.InvalidState):
                return Answer.NOT_NOW  # the tools stopped, or the guest goes down by itself: the state read next tells
            return Answer.TAKEN

        return self.session.run(ask, doing=f"shut down the guest of {name}")

    def _cut(self, vm_id: str, name: str) -> bool:
        try:
            self._task(lambda api: vm_reference(api, vm_id).PowerOffVM_Task(), doing=f"power off {name}")
        except MtvError:
            # The guest may have finished its shutdown in this very moment; only the state decides.
            if self.state(vm_id, name) is PowerState.OFF:
                return False
            raise
        return True

    def _start(self, vm_id: str, name: str) -> None:
        self._task(lambda api: vm_reference(api, vm_id).PowerOnVM_Task(), doing=f"power on {name}")

    def _task(self, start: Callable[[Api], Any], *, doing: str) -> None:
        task = self.session.run(start, doing=doing)
        deadline = time.monotonic() + self.SWITCH_TIMEOUT_S
        while True:
            info = self._task_info(task, doing)
            if info.get("info.state") == vim.TaskInfo.State.success:
                return
            if info.get("info.state") == vim.TaskInfo.State.error:
                raise translate(info["info.error"], where=self.session.where, doing=doing)
            if time.monotonic() >= deadline:
                raise TemporaryError(
                    f"{self.session.where}: the task to {doing} has not ended after {self.SWITCH_TIMEOUT_S:.0f} s",
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
