"""Power of servers. Nova's stop asks the guest first and cuts the power after a time that its operators set."""

from __future__ import annotations

from mtv.model.errors import PermanentError
from mtv.model.source import PowerState
from mtv.providers.openstack.build import power_state
from mtv.providers.openstack.collect import server
from mtv.providers.openstack.session import Session
from mtv.providers.power import Answer, PowerOfVms


class Power(PowerOfVms[Session]):
    """Power of the servers of one session; "power off" is all that it tells, as nova does not say who won."""

    SWITCH_TIMEOUT_S = 300.0

    def state(self, server_id: str, name: str) -> PowerState:
        """Read the power state now. Raises `PermanentError` when the server is gone."""
        return power_state(server(self.session, server_id, name)["status"])

    def _ask_guest(self, server_id: str, name: str) -> Answer:  # noqa: ARG002  nova's stop asks it by itself
        return Answer.NEVER

    def _cut(self, server_id: str, name: str) -> bool:
        self.session.run(lambda cloud: cloud.compute.stop_server(server_id), doing=f"stop {name}")
        return True

    def _start(self, server_id: str, name: str) -> None:
        self.session.run(lambda cloud: cloud.compute.start_server(server_id), doing=f"start {name}")

    def _has_reached(self, server_id: str, name: str, wanted: PowerState) -> bool:
        seen = server(self.session, server_id, name)
        if seen["status"] == "ERROR":
            fault = (seen.get("fault") or {}).get("message", "")
            raise PermanentError(
                f"{self.session.where}: {name} went to ERROR: {fault}",
                cure="see the server's fault on the source",
                code="ServerError",
            )
        return power_state(seen["status"]) is wanted and not seen.get("OS-EXT-STS:task_state")
