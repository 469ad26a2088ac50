"""Step settle, the teardown: finish or undo, release the VM, leave nothing behind. Runs on success, failure and cancel.

It trusts the store and the cluster only. What is done is decided once (`deciding`): a VM that is verified, and whose
source was not started since, is accepted; from there on the target is the VM, and the cluster says so for every store.
A target VM that another run has accepted is left as it is, and so is the source.

           accepted           on_failure: rollback                  on_failure: hold
source     stays off          on again if it was, once the          stays off
                              target is proven stopped
target VM  runs or is halted  removed                               removed
disks      owned by the VM    kept, marked stale                    kept; proven ones need no second copy
pods       removed            removed                               removed
copies     removed from the source, all three; what it does not let go is told of and tried again

A VM that is to be undone and is gone from its source is let go as it is: see `source_gone`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

from mtv.kubevirt import labels, machines, volumes
from mtv.kubevirt.cluster import Cluster
from mtv.kubevirt.labels import POD_ROLES, Role
from mtv.kubevirt.resources import NAMESPACES, PODS, SECRETS
from mtv.model.errors import PermanentError, TemporaryError
from mtv.model.evidence import EvidenceKind, VmPhase
from mtv.model.source import PowerState
from mtv.steps import (
    claiming,
    closing,
    clusters,
    deciding,
    holding,
    layout,
    source,
    source_copies,
    source_gone,
    target_objects,
)
from mtv.steps.context import RunContext, VmContext
from mtv.steps.journal import add_failure, close_open, recorded
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


def end_undoing(ctx: VmContext, *, during: str) -> None:
    """End what `settle` of this run has begun to undo, on behalf of the step `during`, which begins anew."""
    row = ctx.store.vm(*ctx.key)
    if row.holder == ctx.run.id and row.phase in holding.UNDOING:
        ctx.log(f"{ctx.vm.name}: settle was cut off ({row.phase.value}); it is ended first")
        _settle(ctx, during=during)


def _settle(ctx: VmContext, *, during: str = STEP) -> None:
    row = ctx.store.vm(*ctx.key)
    if row.holder == ctx.run.id:
        with ctx.cluster() as cluster:
            clusters.require_same(ctx, cluster)
            other = claiming.held_instead(ctx, cluster)
            if other and not _is_accepted_by_us(ctx, cluster, row.phase):
                _leave_to(ctx, cluster, other, during=during)
            else:
                _settle_held(ctx, cluster, row.phase, during=during)
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


def _settle_held(ctx: VmContext, cluster: Cluster, phase: VmPhase, *, during: str) -> None:
    close_open(ctx, "cut off: the run ended before the pod did", but=during)
    accepted = holding.accepted(ctx, cluster) if machines.is_served(cluster) else None
    decided = deciding.decide(ctx, cluster, phase, accepted)
    removed = _end_pods(ctx, cluster) if cluster.get(NAMESPACES, ctx.namespace) is not None else []
    if (
        accepted is None
        and decided in holding.UNDOING
        and source_gone.is_proven(ctx, must_know=decided is VmPhase.ROLLING_BACK)
    ):
        _let_go(ctx, cluster, removed)
        return
    copies = source_copies.remove(ctx, ctx.vm.id)
    removed += copies.removed
    if accepted is not None and (decided is not VmPhase.ACCEPTING or accepted.run != ctx.run.id):
        ctx.log(f"{ctx.vm.name}: run {accepted.run} has accepted {accepted.name}: all is left as it is")
        outcome, power = "not touched", source.power_now(ctx)
    elif decided is VmPhase.ACCEPTING:
        outcome, power = _accept(ctx, cluster, removed), source.power_now(ctx)
    elif source_gone.is_kept(ctx, cluster):
        ctx.log(f"{ctx.vm.name}: its disks on the target may be its only copy: they are left as they are")
        outcome, power = "not touched", source.power_back_on(ctx)
    elif decided is VmPhase.HOLDING:
        removed += _remove_target(ctx, cluster)
        outcome, power = "held", source.power_now(ctx)
    else:
        outcome, power = "rolled back", _roll_back(ctx, cluster, removed)
    _note(ctx, outcome, removed, power, left=copies.left)
    if outcome != "held" or power is PowerState.ON:  # a source that is off on our account is nobody else's to take
        claiming.let_go(ctx, cluster)
    ctx.store.release_vm(*ctx.key, ctx.run.id, VmPhase.MIGRATED if outcome == "migrated" else VmPhase.FAILED)
    loudly = "WARNING: " if outcome == "migrated" and power is PowerState.ON else ""
    ctx.log(f"{ctx.vm.name}: {loudly}{outcome}; the source is {power.value}")


def _let_go(ctx: VmContext, cluster: Cluster, removed: list[str]) -> None:
    """Let go of a VM that is gone from its source: all that the target has of it stays, and so do copies of it."""
    gone = source_gone.leave_all(ctx, cluster)
    ctx.log(f"WARNING: {gone}")
    add_failure(ctx, STEP, gone)
    source.give_up_starting(ctx)
    _note(ctx, "source gone", removed, PowerState.UNKNOWN)
    claiming.let_go(ctx, cluster)
    ctx.store.release_vm(*ctx.key, ctx.run.id, VmPhase.FAILED)


def _is_accepted_by_us(ctx: VmContext, cluster: Cluster, phase: VmPhase) -> bool:
    """Whether a settle that was cut off got so far that the target is the VM: its lease may be gone then."""
    if phase not in (VmPhase.VERIFIED, VmPhase.ACCEPTING) or not machines.is_served(cluster):
        return False
    accepted = holding.accepted(ctx, cluster)
    return accepted is not None and accepted.run == ctx.run.id


def _leave_to(ctx: VmContext, cluster: Cluster, other: str, *, during: str) -> None:
    """Let go of a VM that another has taken: what bears its labels on the target, and its source, are that one's."""
    ctx.log(f"{ctx.vm.name}: all is left as it is: {other}")
    close_open(ctx, "the VM is taken by another", but=during)
    _note(ctx, "not touched", [], source.power_now(ctx))
    claiming.let_go(ctx, cluster)
    ctx.store.release_vm(*ctx.key, ctx.run.id, VmPhase.FAILED)


def _accept(ctx: VmContext, cluster: Cluster, removed: list[str]) -> str:
    """Hand the disks to the VM and remove the work volume; return the outcome.

    The source stays off; its change stays on record.

    That it is accepted is said first: cut off after that, a repetition goes on, and nobody takes the VM for theirs. A
    VM that is gone before was nobody's yet: it is told of, its source left off, and the next run may take it.
    """
    removed += [f"virtualmachineinstances/{name}" for name in remove_boot_proofs(ctx, cluster)]
    found = target_objects.machines_of(ctx, cluster)
    if not found and _was_accepted(ctx):
        ctx.log(f"{ctx.vm.name}: somebody has deleted its VirtualMachine since it was accepted: that is theirs to do")
        return "migrated"
    if not found:
        gone = PermanentError(
            f"{ctx.vm.name} was verified, but its VirtualMachine is gone from {ctx.namespace}; the source is left off",
            cure="start the wave again, which migrates it anew, or start the source on its platform",
            code="vm-missing",
        )
        ctx.log(f"WARNING: {gone}")
        add_failure(ctx, STEP, gone)
        return "target gone"
    decided = layout.recorded(ctx)
    machines.accept(cluster, found[0], ctx.run.id)
    if not _was_accepted(ctx):
        document = {**_target_noted(ctx), "accepted": True}
        ctx.store.add_evidence(ctx.run.id, ctx.vm.id, EvidenceKind.TARGET_VM, document)
    machines.own_claims(cluster, found[0], [claim.name for claim in decided.disks])
    removed += _remove_work(ctx, cluster)
    return "migrated"


def _target_noted(ctx: VmContext) -> dict[str, Any]:
    rows = ctx.store.evidence(ctx.run.id, ctx.vm.id, EvidenceKind.TARGET_VM)
    return rows[-1].document if rows else {}


def _was_accepted(ctx: VmContext) -> bool:
    return bool(_target_noted(ctx).get("accepted"))


def _roll_back(ctx: VmContext, cluster: Cluster, removed: list[str]) -> PowerState:
    """Undo, in this order: target stopped and removed, claims marked stale, source on, change marked undone."""
    removed += _remove_target(ctx, cluster)
    disks = target_objects.disks(ctx, cluster)
    if not all(volumes.is_known_to_its_journal(claim) for claim in disks):
        # Its journals speak of bytes that others may have changed since. It goes before the marks that say so.
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
    own = functools.partial(target_objects.is_target, ctx)
    stopped = machines.remove(cluster, ctx.namespace, having, own=own)
    orphans = machines.remove_instances(cluster, ctx.namespace, having, own=own)
    return [
        *(f"virtualmachines/{name}" for name in stopped),
        *(f"virtualmachineinstances/{name}" for name in (*boot_proofs, *orphans)),
    ]


def _remove_work(ctx: VmContext, cluster: Cluster) -> list[str]:
    return [f"persistentvolumeclaims/{name}" for name in target_objects.drop_work(ctx, cluster)]


def _end_pods(ctx: VmContext, cluster: Cluster) -> list[str]:
    """End the VM's mover pods, then their Secrets, and wait for both: no mover may outlive this step."""
    ctx.store.bump_epoch(*ctx.key, ctx.run.id, settling=True)
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
