"""Which source VM a run has taken, for which cluster: a connection may come to lead elsewhere while a VM is under way.

Then nothing that this VM has would be found there, and nothing found would say that its target VM does not run.
"""

from __future__ import annotations

import msgspec

from mtv.kubevirt.cluster import Cluster
from mtv.kubevirt.resources import NAMESPACES
from mtv.model.errors import PermanentError
from mtv.model.evidence import EvidenceKind
from mtv.steps.context import VmContext

ASKED, REFUSED = "asked", "refused"
"""Subjects of the evidence TAKEN: before the lease is asked for, and when another has it. Without one: it is ours."""
_OLDEST = "kube-system"
"""The namespace that every cluster has from its beginning to its end: its uid stands for the cluster's."""


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """A source VM (by its identity) that a run has taken for a cluster (by its uid), and its token on the lease."""

    source: str
    cluster: str
    token: str
    by: str = ""  # who has it instead


def uid_of(cluster: Cluster) -> str:
    """Return what tells this cluster from all others. Raises `PermanentError` when it has no such namespace."""
    found = cluster.get(NAMESPACES, _OLDEST)
    if found is None:
        raise PermanentError(
            f"the target cluster has no namespace {_OLDEST}, whose uid tells clusters apart",
            cure="see whether the connection leads to a Kubernetes cluster",
            code="cluster-unknown",
        )
    return str(found["metadata"]["uid"])


def taken(ctx: VmContext) -> Taken | None:
    """Return what this run has taken; None before it did, and of a run that an earlier version began."""
    mine = of_run(ctx, subjects={""})
    return mine[-1] if mine else None


def of_run(ctx: VmContext, *, subjects: set[str]) -> list[Taken]:
    """Return what this run has asked for, was refused or has taken of the VM, oldest first."""
    rows = ctx.store.evidence(ctx.run.id, ctx.vm.id, EvidenceKind.TAKEN)
    return [msgspec.convert(row.document, Taken) for row in rows if row.subject in subjects]


def require_same(ctx: VmContext, cluster: Cluster) -> None:
    """Raise `PermanentError` when the target's connection leads to another cluster than when the run took the VM."""
    mine = taken(ctx)
    if mine is None or mine.cluster == (now := uid_of(cluster)):
        return
    raise PermanentError(
        f"{ctx.vm.name}: connection {ctx.plan.target.connection} leads to another cluster ({now}) than the one "
        f"on which run {ctx.run.id} works ({mine.cluster}): what the VM has there is not seen from here",
        cure="point the connection at that cluster again; if it is gone for good, let go of the VM with `mtv runs "
        "forget` after you have made sure that no target VM runs there",
        code="another-cluster",
    )
