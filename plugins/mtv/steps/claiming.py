"""Taking a source VM against every other store: the row is this store's lock, a Lease on the target is everybody's.

A lease is ours when this store keeps the token that it bears. A copy of this store (restored from a backup) knows runs
of its original, but not the tokens that the original has used since.

lease on the source VM                              prepare             other steps      settle
none                                                takes it            go on            lets nothing go
of this run                                         takes it anew       go on            removes it, unless the VM is
                                                                                         held and its source off
of a run of this store that holds its VM            refuses             refuse           touches nothing
of a run of this store that has let go of its VM    takes it over       -                -
of another store                                    refuses             refuse           touches nothing
"""

from __future__ import annotations

import secrets

import msgspec

from mtv.kubevirt import leases
from mtv.kubevirt.cluster import Cluster, Conflict
from mtv.kubevirt.leases import Holder, Lease
from mtv.model.errors import PermanentError, TemporaryError
from mtv.model.evidence import EvidenceKind
from mtv.model.source import SourceVm
from mtv.providers.base import Provider
from mtv.steps import clusters
from mtv.steps.clusters import ASKED, REFUSED, Taken
from mtv.steps.context import VmContext
from mtv.store import HeldByAnother, NotFound

_ATTEMPTS = 3


def claim(ctx: VmContext, provider: Provider, cluster: Cluster, vm: SourceVm) -> None:
    """Take the source VM for this run, on the cluster that its connection leads to. May be repeated.

    Raises `HeldByAnother` or `PermanentError` naming who has it, `PermanentError` when the run has begun on another
    cluster.
    """
    clusters.require_same(ctx, cluster)
    uid = clusters.uid_of(cluster)
    _tell_of_another_cluster(ctx, uid)
    mine = Taken(source=provider.identity(vm), cluster=uid, token=secrets.token_hex(8))
    _note(ctx, mine, ASKED)  # before the lease bears it: a worker that dies in between finds its own lease again
    holder = Holder(
        run=ctx.run.id, token=mine.token, plan=ctx.plan.name, vm=ctx.vm.id, store=ctx.store.place
    )  # fmt: skip
    for _ in range(_ATTEMPTS):
        found = leases.read(cluster, mine.source)
        refusal = _refusal(ctx, found)
        if refusal is not None:
            _note(ctx, msgspec.structs.replace(mine, by=refusal.message), REFUSED)
            raise refusal
        try:
            leases.take(cluster, mine.source, holder, found)
        except Conflict:
            continue
        _note(ctx, mine, "")
        return
    raise TemporaryError(f"{ctx.vm.name}: its lease changes hands too fast to get in between", code="lease-contended")


def require(ctx: VmContext, cluster: Cluster) -> None:
    """Make sure that the connection leads to the cluster of this run, and that nobody else has taken the source VM.

    Raises `PermanentError`, `HeldByAnother`.
    """
    clusters.require_same(ctx, cluster)
    mine = clusters.taken(ctx)
    refusal = _refusal(ctx, leases.read(cluster, mine.source)) if mine is not None else None
    if refusal is not None:
        raise refusal


def held_instead(ctx: VmContext, cluster: Cluster) -> str:
    """Return in words who has the source VM in place of this run, which may touch nothing then; "" when nobody has.

    A run that did not get as far as asking would undo, by its labels, what a plan of this name in another store made.
    """
    asked = clusters.of_run(ctx, subjects={ASKED})
    mine = [leases.read(cluster, asked[-1].source)] if asked else leases.of_vm(cluster, ctx.plan.name, ctx.vm.id)
    for lease in mine:
        if (refusal := _refusal(ctx, lease)) is not None:
            return refusal.message
    refused = clusters.of_run(ctx, subjects={REFUSED})
    return refused[-1].by if refused and clusters.taken(ctx) is None else ""


def let_go(ctx: VmContext, cluster: Cluster) -> None:
    """Remove the leases of this run on the VM. Those of others stay. May be repeated."""
    asked = clusters.of_run(ctx, subjects={ASKED})
    for source in dict.fromkeys(each.source for each in asked):
        found = leases.read(cluster, source)
        if found is not None and _is_mine(ctx, found):
            leases.remove(cluster, found)


def _tell_of_another_cluster(ctx: VmContext, uid: str) -> None:
    """A run that let go of the VM has proven that no target VM runs, but may have left proven claims, and its lease."""
    rows = ctx.store.evidence_of_all_runs(*ctx.key, EvidenceKind.TAKEN)
    before = [row for row in rows if not row.subject]
    if before and (other := before[-1].document["cluster"]) != uid:
        ctx.log(
            f"{ctx.vm.name}: run {before[-1].run_id} took it for another cluster ({other}); its "
            f"claims and its lease may still be there. This run begins anew on cluster {uid}"
        )


def _note(ctx: VmContext, what: Taken, subject: str) -> None:
    ctx.store.add_evidence(ctx.run.id, ctx.vm.id, EvidenceKind.TAKEN, msgspec.to_builtins(what), subject=subject)


def _is_mine(ctx: VmContext, found: Lease) -> bool:
    if (found.holder.run, found.holder.vm) != (ctx.run.id, ctx.vm.id):
        return False
    return found.holder.token in {each.token for each in clusters.of_run(ctx, subjects={ASKED})}


def _refusal(ctx: VmContext, found: Lease | None) -> PermanentError | None:
    """Return why the lease is not to be had, None when it is."""
    if found is None or _is_mine(ctx, found):
        return None
    holder = found.holder
    if not _is_of_this_store(ctx, holder):
        return PermanentError(
            f"{ctx.vm.name} is taken by run {holder.run} of plan {holder.plan} (its VM {holder.vm}) of another mtv or "
            f"of another copy of this store (store {holder.store}) since {found.since}",
            cure="take it out of one of the plans, or wait until that run has let go of it; if that mtv is gone for "
            f"good, see that no target VM of it runs, then: kubectl delete lease -n {leases.NAMESPACE} {found.name}",
            code="taken-by-another-store",
        )
    if ctx.store.vm(holder.plan, holder.vm).holder != holder.run:
        return None
    return HeldByAnother(
        f"the source of VM {ctx.vm.id} of plan {ctx.plan.name} is migrated by plan {holder.plan} (its VM {holder.vm}), "
        f"whose run {holder.run} has not let go of it",
        cure="take it out of one of the plans, or wait for that run, or clear its `settle` task if the run has ended"
        " without it",
    )


def _is_of_this_store(ctx: VmContext, holder: Holder) -> bool:
    try:
        ctx.store.run(holder.run)
    except NotFound:
        return False
    rows = ctx.store.evidence(holder.run, holder.vm, EvidenceKind.TAKEN)
    return holder.token in {row.document.get("token") for row in rows}
