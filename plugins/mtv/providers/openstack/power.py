"""Power of servers. Nova's stop asks the guest first and cuts the power after a time that its operators set."""

from __future__ import annotations

import time

from mtv.model.errors import PermanentError, TemporaryError
from mtv.model.source import PowerState
from mtv.providers.openstack.build import power_state
from mtv.providers.openstack.collect import server
from mtv.providers.openstack.session import Session
from mtv.providers.power import PowerOfVms, refuse_unless_on

START_TIMEOUT_S = 300.0
_LEAST_WAIT_S = 60.0
"""Nova's own default before it cuts the power; a shorter wish would give up on a guest that is going down."""


class Power(PowerOfVms[Session]):
    """Power of the servers of one session."""

    def state(self, server_id: str, name: str) -> PowerState:
        """Read the power state now. Raises `PermanentError` when the server is gone."""
        return power_state(server(self.session, server_id, name)["status"])

    def off(self, server_id: str, name: str, *, timeout_s: float) -> str:
        """Stop the server and wait; "power off" is all that can be told, as nova does not say who won.

        A suspended or paused server is refused: its disks do not hold what its memory still holds.
        """
        seen = server(self.session, server_id, name)
        state = power_state(seen["status"])
        if state is PowerState.OFF:
            return "already off"
        refuse_unless_on(name, state)
        self.session.run(lambda cloud: cloud.compute.stop_server(server_id), doing=f"stop {name}")
        self._wait(server_id, name, PowerState.OFF, max(timeout_s, _LEAST_WAIT_S))
        return "power off"

    def on(self, server_id: str, name: str) -> None:
        """Start the server and wait until nova says so; one that is on already is left alone."""
        if self.state(server_id, name) is PowerState.ON:
            return
        self.session.run(lambda cloud: cloud.compute.start_server(server_id), doing=f"start {name}")
        self._wait(server_id, name, PowerState.ON, START_TIMEOUT_S)

    def _wait(self, server_id: str, name: str, wanted: PowerState, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while True:
            seen = server(self.session, server_id, name)
            if power_state(seen["status"]) is wanted and not seen.get("OS-EXT-STS:task_state"):
                return
            if seen["status"] == "ERROR":
                fault = (seen.get("fault") or {}).get("message", "")
                raise PermanentError(
                    f"{self.session.where}: {name} went to ERROR: {fault}",
                    cure="see the server's fault on the source",
                    code="ServerError",
                )
            if time.monotonic() >= deadline:
                raise TemporaryError(
                    f"{self.session.where}: {name} is {seen['status']} after {timeout_s:.0f} s, not {wanted.value}",
                    code="StillOn" if wanted is PowerState.OFF else "StillOff",
                )
            time.sleep(self.POLL_S)
