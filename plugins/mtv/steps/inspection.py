"""The whole inspection report of a pod, for the evidence: its termination message holds only what fits into 4 KiB."""

from __future__ import annotations

from mtv.kubevirt.cluster import Cluster
from mtv.kubevirt.labels import Role
from mtv.kubevirt.resources import PODS
from mtv.model.conversion import Inspection
from mtv.model.errors import MtvError
from mtv.model.inspection_lines import inspection_in
from mtv.steps import layout
from mtv.steps.context import VmContext


def whole(ctx: VmContext, cluster: Cluster, role: Role, short: Inspection | None) -> Inspection | None:
    """Return the report from the log of the VM's newest pod of a role, else `short` as it came with the result."""
    try:
        pods = cluster.find(PODS, ctx.namespace, layout.of_role(ctx, role))
        pods.sort(key=lambda pod: pod["metadata"].get("creationTimestamp") or "")
        log = cluster.pod_log(pods[-1]["metadata"]["name"], ctx.namespace, "mover") if pods else ""
    except MtvError as error:
        ctx.log(f"{ctx.vm.name}: the evidence holds the short inspection report: {error.message}")
        return short
    return inspection_in(log.splitlines()) or short
