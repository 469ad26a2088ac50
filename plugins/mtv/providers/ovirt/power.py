"""Power operations: the guest is asked first, every wait ends, and success is what the engine says afterwards."""

from __future__ import annotations

from typing import Any

from mtv.model.errors import PermanentError, TemporaryError
from mtv.model.source import PowerState
from mtv.providers.ovirt.build import power_state
from mtv.providers.ovirt.faults import CONFLICT, GONE
from mtv.providers.ovirt.session import Session
from mtv.providers.power import PowerOfVms, refuse_unless_on

SWITCH_TIMEOUT_S = 180.0


class Power(PowerOfVms[Session]):
    """Power of the VMs of one session."""

    def state(self, vm_id: str, name: str) -> PowerState:
        """Read the power state now. Raises `PermanentError` when the VM is gone."""
        try:
            found = self.session.read(
                lambda system: system.vms_service().vm_service(vm_id).get(), doing=f"read the power state of {name}"
            )
        except PermanentError as error:
            if error.code != GONE:
                raise
            raise PermanentError(
                f"{self.session.where}: {name} ({vm_id}) no longer exists", cure=error.cure, code=GONE
            ) from None
        return power_state(found.status)

    def off(self, vm_id: str, name: str, *, timeout_s: float) -> str:
        """Ask the guest to shut down, power off after `timeout_s`; return how it ended.

        A suspended or paused VM is refused: powering it off would throw away what its memory still holds.
        """
        state = self.state(vm_id, name)
        if state is PowerState.OFF:
            return "already off"
        refuse_unless_on(name, state)
        if self._do("shutdown", vm_id, name) and self._wait_for(vm_id, name, PowerState.OFF, timeout_s):
            return "guest shutdown"
        if self.state(vm_id, name) is PowerState.OFF:
            return "guest shutdown"
        stopped = self._do("stop", vm_id, name)
        if not self._wait_for(vm_id, name, PowerState.OFF, SWITCH_TIMEOUT_S if stopped else 0):
            raise TemporaryError(f"{self.session.where}: {name} is still on after a power off", code="StillOn")
        return "power off" if stopped else "guest shutdown"

    def on(self, vm_id: str, name: str) -> None:
        """Power on and wait until the engine says so; a VM that is on already is left alone."""
        if self.state(vm_id, name) is PowerState.ON:
            return
        self._do("start", vm_id, name)
        if not self._wait_for(vm_id, name, PowerState.ON, SWITCH_TIMEOUT_S):
            raise TemporaryError(f"{self.session.where}: {name} is still not on", code="StillOff")

    def _do(self, action: str, vm_id: str, name: str) -> bool:
        """Whether the engine took the action; in the wrong state (409) it does not, and the state read next decides."""

        def ask(system: Any) -> bool:
            getattr(system.vms_service().vm_service(vm_id), action)()
            return True

        try:
            return self.session.act(ask, doing=f"{action} {name}")
        except TemporaryError as error:
            if error.code != CONFLICT:
                raise
            return False
