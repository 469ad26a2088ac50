"""What is the VM's own among the objects that carry its labels: people copy objects with them, tools clone machines.

A claim is the VM's by its labels and by the name that it was made with; a machine or an instance by its labels and by
the claims that it uses. Nothing else is marked, stopped, accepted or removed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mtv.kubevirt import labels, machines, names
from mtv.kubevirt.cluster import Cluster
from mtv.kubevirt.labels import Role
from mtv.kubevirt.resources import CLAIMS, VIRTUAL_MACHINES
from mtv.steps import layout
from mtv.steps.context import VmContext

_GONE_TIMEOUT_S = 180.0
_MOST_DISKS = 256
"""More than any source attaches to a VM."""


def disks(ctx: VmContext, cluster: Cluster) -> list[dict[str, Any]]:
    """Return the disk claims that runs have made for the VM."""
    return [
        claim for claim in cluster.find(CLAIMS, ctx.namespace, layout.of_role(ctx, Role.DISK)) if _is_own(ctx, claim)
    ]


def drop_work(ctx: VmContext, cluster: Cluster) -> list[str]:
    """Remove the VM's work claim; its pods are gone or go first. Return the names removed."""
    own = {names.work_claim(ctx.plan.name, ctx.vm.id)}
    having = layout.of_role(ctx, Role.WORK)
    return cluster.remove_labelled(CLAIMS, ctx.namespace, having, timeout_s=_GONE_TIMEOUT_S, only=own)


def machines_of(ctx: VmContext, cluster: Cluster) -> list[dict[str, Any]]:
    """Return the VirtualMachines that are the VM's target: one, or none."""
    found = cluster.find(VIRTUAL_MACHINES, ctx.namespace, layout.of_role(ctx, Role.TARGET))
    return [machine for machine in found if is_target(ctx, machine["spec"]["template"]["spec"])]


def is_target(ctx: VmContext, spec: Mapping[str, Any]) -> bool:
    """Whether a machine's or an instance's `spec` uses a claim of the VM."""
    own = {names.disk_claim(ctx.plan.name, ctx.vm.id, index) for index in range(_MOST_DISKS)}
    return not own.isdisjoint(machines.claims_of(spec))


def _is_own(ctx: VmContext, claim: dict[str, Any]) -> bool:
    index = (claim["metadata"].get("annotations") or {}).get(labels.DISK_INDEX, "")
    own = index.isdecimal() and names.disk_claim(ctx.plan.name, ctx.vm.id, int(index))
    return bool(own == claim["metadata"]["name"])
