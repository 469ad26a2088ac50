"""What all sources share about power: waits that end, and states in which it is not cut or disks are not read."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from typing import Generic, TypeVar

from mtv.model.errors import PermanentError
from mtv.model.source import PowerState

S = TypeVar("S")


class PowerOfVms(ABC, Generic[S]):
    """Power of the VMs of one session."""

    POLL_S = 1.0

    def __init__(self, session: S) -> None:
        self.session = session

    @abstractmethod
    def state(self, vm_id: str, name: str) -> PowerState:
        """Read the power state now. Raises `PermanentError` when the VM is gone."""

    def _wait_for(self, vm_id: str, name: str, wanted: PowerState, timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        while self.state(vm_id, name) is not wanted:
            if time.monotonic() >= deadline:
                return False
            time.sleep(self.POLL_S)
        return True


def refuse_unless_on(name: str, state: PowerState) -> None:
    """A suspended or paused VM is not powered off: that would throw away what its memory still holds."""
    if state is not PowerState.ON:
        raise PermanentError(
            f"{name} is {state.value}; its disks do not hold what its memory still holds",
            cure="resume it and shut it down, or power it off by hand",
            code="PowerStateUnsupported",
        )


def refuse_unless_off(name: str, state: PowerState) -> None:
    """Disks of a VM that is not off are not read: their bytes would be torn."""
    if state is not PowerState.OFF:
        raise PermanentError(
            f"{name} is {state.value}: its disks can only be read whole while it is off",
            cure="shut it down first",
            code="SourceNotOff",
        )
