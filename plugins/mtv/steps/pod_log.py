"""What a pod told in its log because its termination message holds only what fits into 4 KiB."""

from __future__ import annotations

from typing import TypeVar

from mtv.kubevirt.cluster import Cluster
from mtv.kubevirt.labels import Role
from mtv.kubevirt.resources import PODS
from mtv.model.errors import MtvError
from mtv.model.log_parts import last_in
from mtv.steps import layout
from mtv.steps.context import VmContext

T = TypeVar("T")


def last_told(ctx: VmContext, cluster: Cluster, role: Role, event: str, kind: type[T]) -> T | None:
    """Return the value that the VM's newest pod of a role told last; None, with a word in the log, without its log."""
    try:
        pods = cluster.find(PODS, ctx.namespace, layout.of_role(ctx, role))
        pods.sort(key=lambda pod: pod["metadata"].get("creationTimestamp") or "")
        log = cluster.pod_log(pods[-1]["metadata"]["name"], ctx.namespace, "mover") if pods else ""
    except MtvError as error:
        ctx.log(f"{ctx.vm.name}: the pod's log cannot be read: {error.message}")
        return None
    return last_in(log.splitlines(), event, kind)
