"""What power operations of all sources share: waits that end, and a refusal to cut the power of what is not on."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Generic, TypeVar

from mtv.model.errors import PermanentError
from mtv.model.source import PowerState

S = TypeVar("S")


class PowerOfVms(ABC, Generic[S]):
    """Power of the VMs of one session. `clock` and `sleep` are seams for tests."""

    POLL_S = 1.0

    def __init__(
        self,
        session: S,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.session = session
        self._clock = clock
        self._sleep = sleep

    @abstractmethod
    def state(self, vm_id: str, name: str) -> PowerState:
        """Read the power state now. Raises `PermanentError` when the VM is gone."""

    def _wait_for(self, vm_id: str, name: str, wanted: PowerState, timeout_s: float) -> bool:
        deadline = self._clock() + timeout_s
        while self.state(vm_id, name) is not wanted:
            if self._clock() >= deadline:
                return False
            self._sleep(self.POLL_S)
        return True


def refuse_unless_on(name: str, state: PowerState) -> None:
    """A suspended or paused VM is not powered off: that would throw away what its memory still holds."""
    if state is not PowerState.ON:
        raise PermanentError(
            f"{name} is {state.value}; its disks do not hold what its memory still holds",
            cure="resume it and shut it down, or power it off by hand",
            code="PowerStateUnsupported",
        )
