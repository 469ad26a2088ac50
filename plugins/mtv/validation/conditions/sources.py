"""The sources of a plan: they have been read, and by connections whose other end is known."""

from __future__ import annotations

from collections.abc import Iterable

from mtv.model.condition import Condition
from mtv.model.connection import Connection
from mtv.validation.conditions.case import critical, warning


def not_read(source: str, vms: Iterable[str]) -> Condition:
    """Return the condition of VMs (ids) whose source has no inventory yet: nothing can be said of them."""
    return critical(
        "SourceProviderNotReady",
        "plan.source.not_read",
        "NotValid",
        f"No inventory of source {source} has been taken yet",
        f"Unpause and trigger the DAG of its inventory, or run `mtv inventory {source}`.",
        vms=tuple(vms),
    )


def unverified(connections: Iterable[Connection]) -> Iterable[Condition]:
    """Return a warning for each connection that asks for TLS without verification."""
    for connection in connections:
        if connection.extra.get("insecure") is True:
            yield warning(
                "ConnectionInsecure",
                "plan.source.insecure",
                "NotValid",
                f"The certificate of connection {connection.conn_id} is not verified",
                "Whoever stands in between can read the password and change the disks. Name its CA or its thumbprint.",
            )
