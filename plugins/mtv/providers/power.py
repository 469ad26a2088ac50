"""What all sources share about power: the guest is asked first, every wait ends, and what the platform says decides."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from enum import Enum
from typing import Generic, Protocol, TypeVar

from mtv.model.errors import PermanentError, TemporaryError
from mtv.model.source import PowerState


class _Session(Protocol):
    where: str


S = TypeVar("S", bound=_Session)


class Answer(Enum):
    """What the platform said when a guest was to be asked to shut down."""

    TAKEN = "taken"
    NOT_NOW = "not now"
    """Something passing is in the way: a task of the platform, tools that are just starting."""
    NEVER = "never"
    """Nothing in the guest listens."""


class PowerOfVms(ABC, Generic[S]):
    """Power of the VMs of one session."""

    POLL_S = 1.0
    SWITCH_TIMEOUT_S = 180.0
    """How long the platform may take to power a VM on, or off without asking."""

    def __init__(self, session: S) -> None:
        self.session = session

    @abstractmethod
    def state(self, vm_id: str, name: str) -> PowerState:
        """Read the power state now. Raises `PermanentError` when the VM is gone."""

    def off(self, vm_id: str, name: str, *, timeout_s: float, asked_before: bool = False) -> str:
        """Ask the guest to shut down, power off after `timeout_s`; return how it ended.

        A guest that cannot be asked now is asked again for `timeout_s`, and has as long from when it could be. Only
        one that nobody can ask is powered off at once, unless it was `asked_before` and may be on its way down.

        A suspended or paused VM is refused: powering it off would throw away what its memory still holds.
        """
        state = self.state(vm_id, name)
        if state is PowerState.OFF:
            return "already off"
        refuse_unless_on(name, state)
        if self._ask_until(vm_id, name, timeout_s, is_patient=asked_before) and self._wait_for(
            vm_id, name, PowerState.OFF, timeout_s
        ):
            return "guest shutdown"
        state = self.state(vm_id, name)
        if state is PowerState.OFF:
            return "guest shutdown"
        refuse_unless_on(name, state)  # somebody may have suspended it meanwhile
        cut = self._cut(vm_id, name)
        if not self._wait_for(vm_id, name, PowerState.OFF, max(timeout_s, self.SWITCH_TIMEOUT_S) if cut else 0):
            raise TemporaryError(f"{self.session.where}: {name} is still on after a power off", code="StillOn")
        return "power off" if cut else "guest shutdown"

    def on(self, vm_id: str, name: str) -> None:
        """Power on and wait until the platform says so; a VM that is on already is left alone."""
        if self.state(vm_id, name) is PowerState.ON:
            return
        self._start(vm_id, name)
        if not self._wait_for(vm_id, name, PowerState.ON, self.SWITCH_TIMEOUT_S):
            raise TemporaryError(f"{self.session.where}: {name} is still not on", code="StillOff")

    @abstractmethod
    def _ask_guest(self, vm_id: str, name: str) -> Answer:
        """Ask the guest to shut down."""

    @abstractmethod
    def _cut(self, vm_id: str, name: str) -> bool:
        """Power off; False when it was not taken because the VM is in another state by now."""

    @abstractmethod
    def _start(self, vm_id: str, name: str) -> None:
        """Power on."""

    def _ask_until(self, vm_id: str, name: str, timeout_s: float, *, is_patient: bool) -> bool:
        """Whether the guest was asked. Once it could have been, it is waited for, even if its tools end meanwhile.

        `is_patient`: from the start, because its tools may have ended by what an earlier call asked.
        """
        deadline = time.monotonic() + timeout_s
        answer = self._ask_guest(vm_id, name)
        if answer is Answer.NEVER and not is_patient:
            return False
        while answer is not Answer.TAKEN:
            if self.state(vm_id, name) is not PowerState.ON or time.monotonic() >= deadline:
                return False
            time.sleep(self.POLL_S)
            answer = self._ask_guest(vm_id, name)
        return True

    def _has_reached(self, vm_id: str, name: str, wanted: PowerState) -> bool:
        return self.state(vm_id, name) is wanted

    def _wait_for(self, vm_id: str, name: str, wanted: PowerState, timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        while not self._has_reached(vm_id, name, wanted):
            if time.monotonic() >= deadline:
                return False
            time.sleep(self.POLL_S)
        return True


def refuse_while_unknown(name: str, state: PowerState) -> None:
    """Raise `TemporaryError` for a VM of which the source does not say whether it runs: most such states pass."""
    if state is PowerState.UNKNOWN:
        raise TemporaryError(
            f"the source does not say whether {name} runs: a task there holds it, its host is silent, or it is broken",
            cure="wait until the task (such as a backup) has ended or the host answers; bring a VM that is shelved "
            "or in ERROR on or off by hand; then try again",
            code="PowerStateUnknown",
        )


def refuse_unless_on(name: str, state: PowerState) -> None:
    """A suspended or paused VM is not powered off: that would throw away what its memory still holds."""
    refuse_while_unknown(name, state)
    if state is not PowerState.ON:
        raise PermanentError(
            f"{name} is {state.value}; its disks do not hold what its memory still holds",
            cure="resume it and shut it down, or power it off by hand",
            code="PowerStateUnsupported",
        )


def refuse_unless_off(name: str, state: PowerState) -> None:
    """Disks of a VM that is not off are not read: their bytes would be torn."""
    refuse_while_unknown(name, state)
    if state is not PowerState.OFF:
        raise PermanentError(
            f"{name} is {state.value}: its disks can only be read whole while it is off",
            cure="shut it down first",
            code="SourceNotOff",
        )
