"""Power of VMs by the engine's actions."""

from __future__ import annotations

from typing import Any

from mtv.model.errors import PermanentError, TemporaryError
from mtv.model.source import PowerState
from mtv.providers.ovirt.build import power_state
from mtv.providers.ovirt.faults import CONFLICT, GONE
from mtv.providers.ovirt.session import Session
from mtv.providers.power import Answer, PowerOfVms


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

    def _ask_guest(self, vm_id: str, name: str) -> Answer:
        return Answer.TAKEN if self._do("shutdown", vm_id, name) else Answer.NOT_NOW

    def _cut(self, vm_id: str, name: str) -> bool:
        return self._do("stop", vm_id, name)

    def _start(self, vm_id: str, name: str) -> None:
        self._do("start", vm_id, name)

    def _do(self, action: str, vm_id: str, name: str) -> bool:
        """Whether the engine took the action.

        In the wrong state, or while another task such as a backup holds the VM (409), it does not, and the state read
        next decides.
        """

        def ask(system: Any) -> bool:
            getattr(system.vms_service().vm_service(vm_id), action)()
            return True

        try:
            return self.session.act(ask, doing=f"{action} {name}")
        except TemporaryError as error:
            if error.code != CONFLICT:
                raise
            return False
