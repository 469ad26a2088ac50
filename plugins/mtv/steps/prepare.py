"""Step prepare: take the VM, make sure that all the rest can work, make its claims, and shut the source down.

The shutdown comes last: whatever can be refused is refused before it.
"""

from __future__ import annotations

import msgspec

from mtv.kubevirt import labels, machines, volumes
from mtv.kubevirt.cluster import Cluster
from mtv.kubevirt.labels import POD_ROLES
from mtv.kubevirt.resources import PODS
from mtv.model.concern import Concern
from mtv.model.errors import PermanentError
from mtv.model.evidence import EvidenceKind, VmPhase
from mtv.model.source import PowerState, SourceVm
from mtv.steps import (
    claiming,
    guest,
    holding,
    layout,
    preflight,
    source,
    source_files,
    source_gone,
    target_objects,
    windows,
)
from mtv.steps.context import VmContext
from mtv.steps.journal import recorded
from mtv.steps.layout import Layout
from mtv.steps.look_inside import look_inside
from mtv.steps.recovery import take

STEP = "prepare"
_GONE_TIMEOUT_S = 120


def prepare(ctx: VmContext) -> None:
    """Prepare the VM for copying. Claims that are proven and not stale (a held failure) are kept as they are.

    Raises `PermanentError` for a VM that is blocked, has drifted, cannot be built on the target or comes after its
    window has closed; `HeldByAnother` while another run holds it; `TemporaryError` when an endpoint does not answer.
    """
    with recorded(ctx, STEP):
        if holding.is_migrated(ctx, STEP):
            return
        refuse_blocked(ctx)
        windows.refuse_beginning(ctx)
        row = take(ctx)
        if holding.is_migrated(ctx, STEP):
            return  # by the run that it was taken from
        if row.phase in holding.ON_THE_TARGET:
            ctx.log(f"{ctx.vm.name}: the target VM exists already ({row.phase.value}); nothing to prepare")
            return
        ctx.store.advance(*ctx.key, ctx.run.id, VmPhase.PREPARING)
        with ctx.provider(ctx.vm.source) as provider, ctx.cluster() as cluster:
            claiming.claim(ctx, provider, cluster, source.pinned(ctx))
            now = source.read(ctx, provider)
            _refuse_unmovable(ctx, now)
            machines.require_kubevirt(cluster)
            holding.refuse_accepted(ctx, cluster)
            cluster.ensure_namespace(ctx.namespace)
            decided = layout.decide(ctx, cluster, now)
            _try_machine(ctx, cluster, now, decided)
            guest.pin(ctx, cluster, source.pinned(ctx))
            source_files.require_allowed(ctx, cluster)
            _prove_classes(ctx, cluster, decided)
            source_gone.refuse_kept(ctx, cluster)
            _end_pods_of_other_runs(ctx, cluster)
            _drop_orphaned_work(ctx, cluster, decided)
            _drop_outgrown_work(ctx, cluster, decided)
            _make_claims(ctx, cluster, decided)
            ctx.store.add_evidence(ctx.run.id, ctx.vm.id, EvidenceKind.VOLUMES, decided.document())
            if provider.power_state(now) is PowerState.OFF:
                look_inside(ctx, provider, cluster, now, decided)
            source.shut_down(ctx, provider, now)
            final = source.read(ctx, provider)
            source.pin(ctx, ctx.vm.id, final, subject=source.FINAL)
            _reset_work(ctx, cluster, decided, final)
            if layout.all_proven(final, layout.states(ctx, cluster, decided)):
                ctx.log(f"{ctx.vm.name}: the claims hold a proven copy of the source as it is; it is not copied again")
                return
            look_inside(ctx, provider, cluster, final, decided)


def refuse_blocked(ctx: VmContext) -> None:
    """Raise `PermanentError` when validation found a Critical concern in this run, or did not look at the VM."""
    rows = ctx.store.evidence(ctx.run.id, ctx.vm.id, EvidenceKind.CONCERNS)
    if not rows:
        raise PermanentError(
            f"{ctx.vm.name} was not validated in this run", cure="clear the task validate", code="not-validated"
        )
    concerns = msgspec.convert(rows[-1].document["concerns"], list[Concern])
    critical = [concern for concern in concerns if concern.blocks]
    if critical:
        words = "; ".join(f"{concern.label}: {concern.assessment}" for concern in critical)
        raise PermanentError(
            f"{ctx.vm.name} is blocked by {len(critical)} critical concern(s): {words}",
            cure="mend the VM on the source, take it out of the wave, or accept the concern in the plan "
            "(accept_concerns); nothing was touched",
            code="blocked",
        )


def _refuse_unmovable(ctx: VmContext, vm: SourceVm) -> None:
    if vm.is_template:
        raise PermanentError(f"{ctx.vm.name} is a template", cure="take it out of the wave", code="template")
    if vm.power is PowerState.SUSPENDED:
        raise PermanentError(
            f"{ctx.vm.name} is suspended; its memory would be lost", cure="resume it or shut it down", code="suspended"
        )


def _try_machine(ctx: VmContext, cluster: Cluster, vm: SourceVm, decided: Layout) -> None:
    """What cannot be built, or what the target refuses, must fail before the shutdown, not after the copy."""
    why = machines.why_not_tried(cluster, layout.machine(ctx, vm, decided))
    if why:
        ctx.log(f"{ctx.vm.name}: the target was not asked whether it takes the VM: {why}")


def _prove_classes(ctx: VmContext, cluster: Cluster, decided: Layout) -> None:
    for name in sorted({claim.storage_class for claim in (*decided.disks, decided.work)}):
        volumes.require_class(cluster, name)
    for name in sorted({claim.storage_class for claim in decided.disks if claim.volume_mode == "Block"}):
        preflight.prove_block_class(ctx, cluster, name)


def _make_claims(ctx: VmContext, cluster: Cluster, decided: Layout) -> None:
    """Make what is missing. A class that waits for its first consumer binds when the mover's pod comes."""
    volumes.ensure_claims(
        cluster,
        ctx.namespace,
        (*decided.disks, decided.work),
        plan=ctx.plan.name,
        wave=ctx.wave.name,
        vm=ctx.vm.id,
        run=ctx.run.id,
    )


def _end_pods_of_other_runs(ctx: VmContext, cluster: Cluster) -> None:
    """End movers that a worker, lost but not dead, has made after its run was settled.

    They are fenced by the lock on the work volume only, and that may be made anew: a new one knows of no epoch.
    """
    having = labels.of_vm(ctx.plan.name, ctx.vm.id)
    late = [
        pod["metadata"]["name"]
        for pod in cluster.find(PODS, ctx.namespace, having)
        if pod["metadata"]["labels"].get(labels.ROLE) in POD_ROLES
        and pod["metadata"]["labels"].get(labels.RUN) != labels.value(ctx.run.id)
    ]
    if late:
        ctx.log(f"{ctx.vm.name}: ending what an earlier run has left: {', '.join(late)}")
        cluster.remove_labelled(PODS, ctx.namespace, having, timeout_s=_GONE_TIMEOUT_S, only=late)


def _drop_orphaned_work(ctx: VmContext, cluster: Cluster, decided: Layout) -> None:
    """Remove a work claim whose disk claims are all gone, as when somebody removed them to have a clean copy.

    Its commit journal would answer for a conversion that the new copy, of the same digest, never had. It goes before
    the new claims come: once they are there, nothing tells that they are new. A disk claim that is left says itself
    whether there was a conversion.
    """
    if volumes.disk_states(cluster, ctx.namespace, decided.disks, plan=ctx.plan.name, vm=ctx.vm.id):
        return
    if target_objects.drop_work(ctx, cluster):
        ctx.log(f"{ctx.vm.name}: its disk claims are gone, and so are the journals of their copies: all begins anew")


def _drop_outgrown_work(ctx: VmContext, cluster: Cluster, decided: Layout) -> None:
    """Remove a work claim that a mended plan has outgrown, as by a larger root disk: it is made anew at its new size.

    Proven copies need its journals no more, and an unproven one begins anew. Where a conversion may have begun to
    commit, its journal alone says what the disks hold: such a claim is left, and refused when the claims are made.
    """
    if not volumes.differs(cluster, ctx.namespace, decided.work):
        return
    found = volumes.disk_states(cluster, ctx.namespace, decided.disks, plan=ctx.plan.name, vm=ctx.vm.id)
    if not any(state.may_be_half_committed() for state in found.values()):
        ctx.log(f"{ctx.vm.name}: the plan needs another work volume than the one that is there: it is made anew")
        target_objects.drop_work(ctx, cluster)


def _reset_work(ctx: VmContext, cluster: Cluster, decided: Layout, final: SourceVm) -> None:
    """Start with a fresh work volume when disks that were converted, or used by a guest, have to be copied again.

    The old one's copy journal says nothing true about such bytes, and its commit journal would answer for a
    conversion that the new copy never had.
    """
    found = layout.states(ctx, cluster, decided)
    if layout.all_proven(final, found) or all(state.is_known_to_its_journal for state in found.values()):
        return
    ctx.log(f"{ctx.vm.name}: its disks were converted or used, and the source has moved on; the copy begins anew")
    target_objects.drop_work(ctx, cluster)
    for state in found.values():
        volumes.mark(cluster, ctx.namespace, state.claim.name, volumes.UNPROVEN)
    _make_claims(ctx, cluster, decided)
