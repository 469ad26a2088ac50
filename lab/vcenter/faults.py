"""Client of the vCenter's fault endpoint: makes it misbehave on demand, for tests.

faults = Faults(state.endpoints("vcenter"))
faults.soap("CreateSnapshot_Task", "ResourceInUse", on="web-1")
faults.drop_downloads(after_bytes=5 << 20)
faults.clear()
"""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

from mtv.model.errors import PermanentError


class Faults:
    """Arms faults of one running vCenter; all are off until armed, and again after `clear()`."""

    def __init__(self, endpoints: Mapping[str, Any]) -> None:
        self._url = f"{endpoints['lab_url']}/fault"
        self._context = ssl.create_default_context(cafile=endpoints["ca_file"])

    def soap(self, method: str, fault: str, *, on: str = "", count: int = 1, skip: int = 0, delay_ms: int = 0) -> None:
        """`method` (on the object named `on`, else on any) answers the vSphere fault type `fault`.

        `skip` calls pass first; then `count` calls fail, 0 means all.
        """
        self._send(Method=method, Fault=fault, Object=on, Count=count, Skip=skip, DelayMS=delay_ms)

    def hide(self, name: str, *properties: str, privilege: str = "System.Read") -> None:
        """Nobody may read these properties (and what lies below them) of the objects of that name."""
        self._send(Object=name, Hide=properties, Privilege=privilege)

    def drop_downloads(self, *, after_bytes: int, count: int = 1) -> None:
        """Cut the connection of each of the next `count` downloads after so many bytes."""
        self._send(DropAfter=after_bytes, Count=count)

    def corrupt_downloads(self, *, at_byte: int, count: int = 1) -> None:
        """Flip one bit at that byte of what each of the next `count` downloads sends."""
        self._send(CorruptAt=at_byte, Count=count)

    def refuse_downloads(self, *, status: int = 503, count: int = 1) -> None:
        """Answer the next `count` downloads with an HTTP status."""
        self._send(RefuseStatus=status, Count=count)

    def limit_downloads(self, *, bytes_per_second: int) -> None:
        """Slow every download down; 0 lifts the limit."""
        self._send(RateBytes=bytes_per_second)

    def expire_sessions(self) -> None:
        """End every session there is, as an administrator or a restart would."""
        self._send(ExpireSessions=True)

    def session_idle(self, milliseconds: int) -> None:
        """Sessions end after so long without a call; 0 is never."""
        self._send(SessionIdleMS=milliseconds)

    def lease_timeout(self, milliseconds: int) -> None:
        """Leases opened from now on end after so long without progress; 0 is the usual 300 s."""
        self._send(LeaseTimeoutMS=milliseconds)

    def export_thumbprint(self, thumbprint: str) -> None:
        """Leases opened from now on tell this thumbprint of the `ExportHost`, not the right one; "" tells none."""
        self._send(Thumbprint=thumbprint)

    def forget_change_ids(self) -> None:
        """No change id is known any more, as after a host's crash."""
        self._send(ForgetChangeIDs=True)

    def clear(self) -> None:
        """Disarm everything; sessions that are over stay so."""
        self._send(Clear=True)

    def _send(self, **order: object) -> None:
        # S310: the address is the lab's own, from its endpoints
        request = urllib.request.Request(self._url, json.dumps(order).encode(), method="POST")  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=30, context=self._context):  # noqa: S310
                return
        except urllib.error.HTTPError as error:
            raise PermanentError(f"the vCenter refused {order}: {error.read().decode(errors='replace')}") from error
