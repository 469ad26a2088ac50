"""Step settle, the teardown: finish or undo, release the VM, leave nothing behind. Runs on success, failure and cancel.

It trusts the store and the cluster only. The commit point is phase VERIFIED: from there on the target is the VM, and
the cluster says so for every store. A target VM that another run has accepted is left as it is, and so is the source.

           phase verified     on_failure: rollback                  on_failure: hold
source     stays off          on again if it was, once the          stays off
                              target is proven stopped
target VM  runs or is halted  removed                               removed
disks      owned by the VM    kept, marked stale                    kept; proven ones need no second copy
pods       removed            removed                               removed
copies     removed from the source, all three; what it does not let go is told of and tried again
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from mtv.kubevirt import labels, machines, volumes
from mtv.kubevirt.cluster import Cluster
from mtv.kubevirt.labels import POD_ROLES, Role
from mtv.kubevirt.resources import CLAIMS, NAMESPACES, PODS, SECRETS, VIRTUAL_MACHINES
from mtv.model.errors import PermanentError, TemporaryError
from mtv.model.evidence import EvidenceKind, VmPhase
from mtv.model.source import PowerState
from mtv.steps import claiming, closing, clusters, holding, layout, source, source_copies
from mtv.steps.context import RunContext, VmContext
from mtv.steps.journal import close_open, recorded
from mtv.steps.verify import remove_boot_proofs
from mtv.store import VmRow

STEP = "settle"
TRIES_FOR_COPIES = 3
"""How often a run's `settle` is tried for the sake of copies on the source; later runs of the plan go on with it.

Fewer tries than the task has, so that a settled VM does not end red."""
_COPIES_LEFT = "copies-left"
_GONE_TIMEOUT_S = 180.0
_POD_GRACE_S = 30


def settle(ctx: VmContext) -> None:
    """Finish or undo what this run did to the VM and let go of it. May be repeated at any time.

    Raises `TemporaryError` while something cannot be proven gone (a pod on a node that does not answer): the VM stays
    held, and its source off, until it can. Raises it, too, while copies are left on the source: the VM is settled then,
    and only they are tried again. Once that was often enough they are told of, and `freeze` of the next run tries.
    """
    with recorded(ctx, STEP):
        settle_leftover(ctx, ctx.vm.id)
        _settle(ctx)
        _ask_again_for_copies(ctx)


def _settle(ctx: VmContext) -> None:
    row = ctx.store.vm(*ctx.key)
    if row.holder == ctx.run.id:
        with ctx.cluster() as cluster:
            clusters.require_same(ctx, cluster)
            other = claiming.held_instead(ctx, cluster)
            if other and not _is_accepted_by_us(ctx, cluster, row.phase):
                _leave_to(ctx, cluster, other)
            else:
                _settle_held(ctx, cluster, row.phase)
    else:
        _note_untouched(ctx, row)
    closing.close_when_settled(ctx)


def _ask_again_for_copies(ctx: VmContext) -> None:
    """Fail while copies are left on the source, so that the task is tried again; give in after a few times.

    Another run that holds the VM meanwhile removes them with its own.
    """
    left = _last_settled(ctx).get("left")
    if not left or ctx.store.vm(*ctx.key).holder:
        return
    failures = ctx.store.evidence(ctx.run.id, ctx.vm.id, EvidenceKind.FAILURE)
    tries = 1 + sum(1 for row in failures if row.document.get("code") == _COPIES_LEFT)
    if tries < TRIES_FOR_COPIES:
        raise TemporaryError(
            f"{ctx.vm.name} is settled, but left behind: {'; '.join(left)}",
            cure="this is tried again, at last by the next run of the plan",
            code=_COPIES_LEFT,
        )
    ctx.log(f"{ctx.vm.name}: left behind: {'; '.join(left)}; the next run of the plan removes them")


def settle_leftover(ctx: RunContext, vm_id: str) -> bool:
    """Settle a VM on behalf of a run that has ended but still holds it (its worker died); whether there was one.

    A VM that nobody holds, this run, or a run that is active is left alone.
    """
    holder = ctx.store.vm(ctx.plan.name, vm_id).holder
    if not holder or holder == ctx.run.id:
        return False
    run = ctx.store.run(holder)
    if run.state == "running":
        return False
    ctx.log(f"{vm_id}: run {holder} ended without settling it; settling it now")
    own = {field.name: getattr(ctx, field.name) for field in dataclasses.fields(RunContext)}
    of_run = RunContext(**{**own, "run": run, "plan": ctx.store.plan(run.plan_hash)}).for_vm(vm_id)
    with recorded(of_run, STEP):
        _settle(of_run)
    return True


def _settle_held(ctx: VmContext, cluster: Cluster, phase: VmPhase) -> None:
    close_open(ctx, "cut off: the run ended before the pod did")
    if cluster.get(NAMESPACES, ctx.namespace) is None:
        removed: list[str] = []
        if phase is VmPhase.VERIFIED:
            raise PermanentError(f"namespace {ctx.namespace} is gone, and {ctx.vm.name} with it", code="namespace-gone")
    else:
        removed = _end_pods(ctx, cluster)
    copies = source_copies.remove(ctx, ctx.vm.id)
    removed += copies.removed
    accepted = holding.accepted(ctx, cluster) if machines.is_served(cluster) else None
    if accepted is not None and (phase is not VmPhase.VERIFIED or accepted.run != ctx.run.id):
        ctx.log(f"{ctx.vm.name}: run {accepted.run} has accepted {accepted.name}: all is left as it is")
        outcome, power = "not touched", source.power_now(ctx)
    elif phase is VmPhase.VERIFIED:
        outcome, power = "migrated", _accept(ctx, cluster, removed)
    elif ctx.vm.on_failure == "hold":
        removed += _remove_target(ctx, cluster)
        outcome, power = "held", source.power_now(ctx)
    else:
        outcome, power = "rolled back", _roll_back(ctx, cluster, removed)
    _note(ctx, outcome, removed, power, left=copies.left)
    if outcome != "held" or power is PowerState.ON:  # a source that is off on our account is nobody else's to take
        claiming.let_go(ctx, cluster)
    ctx.store.release_vm(*ctx.key, ctx.run.id, VmPhase.MIGRATED if outcome == "migrated" else VmPhase.FAILED)
    ctx.log(f"{ctx.vm.name}: {outcome}; the source is {power.value}")


def _is_accepted_by_us(ctx: VmContext, cluster: Cluster, phase: VmPhase) -> bool:
    """Whether a settle that was cut off got so far that the target is the VM: its lease may be gone then."""
    if phase is not VmPhase.VERIFIED or not machines.is_served(cluster):
        return False
    accepted = holding.accepted(ctx, cluster)
    return accepted is not None and accepted.run == ctx.run.id


def _leave_to(ctx: VmContext, cluster: Cluster, other: str) -> None:
    """Let go of a VM that another has taken: what bears its labels on the target, and its source, are that one's."""
    ctx.log(f"{ctx.vm.name}: all is left as it is: {other}")
    close_open(ctx, "the VM is taken by another")
    _note(ctx, "not touched", [], source.power_now(ctx))
    claiming.let_go(ctx, cluster)
    ctx.store.release_vm(*ctx.key, ctx.run.id, VmPhase.FAILED)


def _accept(ctx: VmContext, cluster: Cluster, removed: list[str]) -> PowerState:
    """Hand the disks to the VM and remove the work volume. The source stays off; its change stays on record.

    That it is accepted is said first: cut off after that, a repetition goes on, and nobody takes the VM for theirs.
    """
    removed += [f"virtualmachineinstances/{name}" for name in remove_boot_proofs(ctx, cluster)]
    found = cluster.find(VIRTUAL_MACHINES, ctx.namespace, layout.of_role(ctx, Role.TARGET))
    if not found:
        raise PermanentError(
            f"{ctx.vm.name} was verified, but its VirtualMachine is gone from {ctx.namespace}", code="vm-missing"
        )
    decided = layout.recorded(ctx)
    machines.accept(cluster, found[0], ctx.run.id)
    machines.own_claims(cluster, found[0], [claim.name for claim in decided.disks])
    removed += _remove_work(ctx, cluster)
    return source.power_now(ctx)


def _roll_back(ctx: VmContext, cluster: Cluster, removed: list[str]) -> PowerState:
    """Undo, in this order: target stopped and removed, claims marked stale, source on, change marked undone."""
    removed += _remove_target(ctx, cluster)
    disks = cluster.find(CLAIMS, ctx.namespace, layout.of_role(ctx, Role.DISK))
    if any(labels.CONVERTING in (claim["metadata"].get("annotations") or {}) for claim in disks):
        # Its journals speak of bytes that the conversion may have changed since. It goes before the marks that say so.
        removed += _remove_work(ctx, cluster)
    for claim in disks:
        volumes.mark(cluster, ctx.namespace, claim["metadata"]["name"], {**volumes.UNPROVEN, labels.STALE: "true"})
    return source.power_back_on(ctx)


def _remove_target(ctx: VmContext, cluster: Cluster) -> list[str]:
    """Stop and remove whatever of the VM runs or could run on the target; return once it is proven gone."""
    if not machines.is_served(cluster):
        return []  # no KubeVirt, no machine
    having = layout.of_role(ctx, Role.TARGET)
    boot_proofs = remove_boot_proofs(ctx, cluster)
    stopped = machines.remove(cluster, ctx.namespace, having)
    orphans = machines.remove_instances(cluster, ctx.namespace, having)
    return [
        *(f"virtualmachines/{name}" for name in stopped),
        *(f"virtualmachineinstances/{name}" for name in (*boot_proofs, *orphans)),
    ]


def _remove_work(ctx: VmContext, cluster: Cluster) -> list[str]:
    having = layout.of_role(ctx, Role.WORK)
    names = cluster.remove_labelled(CLAIMS, ctx.namespace, having, timeout_s=_GONE_TIMEOUT_S)
    return [f"persistentvolumeclaims/{name}" for name in names]


def _end_pods(ctx: VmContext, cluster: Cluster) -> list[str]:
    """End the VM's mover pods, then their Secrets, and wait for both: no mover may outlive this step."""
    ctx.store.bump_epoch(*ctx.key, ctx.run.id)
    removed: list[str] = []
    for role in POD_ROLES:
        having = layout.of_role(ctx, role)
        names = cluster.remove_labelled(PODS, ctx.namespace, having, timeout_s=_GONE_TIMEOUT_S, grace_s=_POD_GRACE_S)
        removed += [f"pods/{name}" for name in names]
        # A Secret is owned by its pod and goes with it; it bears the pod's name, should its labels be missing.
        secrets = cluster.remove_labelled(SECRETS, ctx.namespace, having, timeout_s=_GONE_TIMEOUT_S)
        removed += [f"secrets/{name}" for name in secrets]
        for name in names:
            cluster.delete(SECRETS, name, ctx.namespace)
    return removed


def _note_untouched(ctx: VmContext, row: VmRow) -> None:
    """Say once how this run left a VM that it does not hold: settled before, blocked, not taken, taken by another."""
    before = _last_settled(ctx)
    if before:
        ctx.log(f"{ctx.vm.name}: settled already")
        if before.get("left") and not row.holder:
            copies = source_copies.remove(ctx, ctx.vm.id)
            document = {**before, "removed": [*before["removed"], *copies.removed], "left": copies.left}
            ctx.store.add_evidence(ctx.run.id, ctx.vm.id, EvidenceKind.SETTLED, document)
        return
    is_blocked = row.phase is VmPhase.BLOCKED and row.last_run == ctx.run.id
    outcome = "blocked" if is_blocked else "not touched"
    ctx.log(f"{ctx.vm.name}: {outcome}" + (f"; run {row.holder} holds it" if row.holder else ""))
    _note(ctx, outcome, [], source.power_now(ctx))


def _last_settled(ctx: VmContext) -> dict[str, Any]:
    rows = ctx.store.evidence(ctx.run.id, ctx.vm.id, EvidenceKind.SETTLED)
    return rows[-1].document if rows else {}


def _note(ctx: VmContext, outcome: str, removed: list[str], power: PowerState, *, left: Sequence[str] = ()) -> None:
    document: dict[str, Any] = {"outcome": outcome, "removed": removed, "left": [*left], "source_power": power.value}
    ctx.store.add_evidence(ctx.run.id, ctx.vm.id, EvidenceKind.SETTLED, document)
