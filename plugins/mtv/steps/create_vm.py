"""Step create_vm: make the VirtualMachine, halted, and then give it the power state that the plan asks for."""

from __future__ import annotations

from typing import Any

from mtv.kubevirt import labels, machines, volumes
from mtv.kubevirt.cluster import Cluster
from mtv.kubevirt.resources import VIRTUAL_MACHINES
from mtv.model.errors import DriftError, MtvError, PermanentError
from mtv.model.evidence import EvidenceKind, VmPhase
from mtv.model.source import PowerState, SourceVm
from mtv.providers.base import Provider
from mtv.steps import claiming, holding, layout, source
from mtv.steps.context import VmContext
from mtv.steps.journal import recorded
from mtv.store import StaleHolder

STEP = "create_vm"


def create_vm(ctx: VmContext) -> None:
    """Make the target VM and, if it is to run, start it: only after the source was seen off in this very step.

    Raises `PermanentError` naming the task to clear, `DriftError` when the source has moved on since the copy.
    """
    with recorded(ctx, STEP):
        if holding.is_migrated(ctx, STEP):
            return
        ready = VmPhase.TRANSFERRED if ctx.vm.skip_guest_conversion else VmPhase.CONVERTED
        phases = {ready} | holding.ON_THE_TARGET
        before = "transfer" if ctx.vm.skip_guest_conversion else "convert"
        row = holding.require(ctx, STEP, phases, clear=before)
        decided = layout.recorded(ctx)
        with ctx.provider(ctx.vm.source) as provider, ctx.cluster() as cluster:
            claiming.require(ctx, cluster)
            accepted = holding.accepted(ctx, cluster)
            if accepted is not None and (row.phase, accepted.run) == (VmPhase.VERIFIED, ctx.run.id):
                ctx.log(f"{ctx.vm.name}: {accepted.name} is accepted already; only settle has to end")
                return
            holding.refuse(ctx, accepted)
            now = source.read(ctx, provider)
            found = layout.states(ctx, cluster, decided)
            if not layout.all_proven(now, found):
                raise DriftError(
                    f"{ctx.vm.name}: the claims hold no proven copy of the source as it is now",
                    cure="clear the task prepare of this VM and what follows it",
                    code="copy-outdated",
                )
            if layout.converts(ctx, now) and not all(state.converted for state in found.values()):
                raise PermanentError(
                    f"{ctx.vm.name}: the claims are not converted",
                    cure="clear the task convert of this VM and what follows it",
                    code="not-converted",
                )
            if row.phase is not VmPhase.VERIFIED:
                ctx.store.advance(*ctx.key, ctx.run.id, VmPhase.CREATING, expect=phases)
            ctx.store.set_target_name(*ctx.key, ctx.run.id, ctx.vm.target_name)
            # Whoever starts the machine, its guest writes: the copy's journal must never be resumed on these bytes.
            for state in found.values():
                volumes.mark(cluster, ctx.namespace, state.claim.name, {labels.USED: ctx.run.id})
            made = machines.ensure(cluster, layout.machine(ctx, now, decided))
            try:
                made = _with_power(ctx, provider, cluster, now, made)
            except MtvError:
                _remove_if_settled_meanwhile(ctx, cluster, made)
                raise
            name = str(made["metadata"]["name"])
            ctx.store.add_evidence(
                ctx.run.id,
                ctx.vm.id,
                EvidenceKind.TARGET_VM,
                {
                    "name": name,
                    "namespace": ctx.namespace,
                    "uid": made["metadata"]["uid"],
                    "run_strategy": made["spec"]["runStrategy"],
                },
            )
            if row.phase is not VmPhase.VERIFIED:
                try:
                    ctx.store.advance(*ctx.key, ctx.run.id, VmPhase.CREATED, expect={VmPhase.CREATING})
                except StaleHolder:
                    _remove_if_settled_meanwhile(ctx, cluster, made)
                    raise


def _with_power(
    ctx: VmContext, provider: Provider, cluster: Cluster, now: SourceVm, made: dict[str, Any]
) -> dict[str, Any]:
    """Give the machine the power state that the plan asks for, and return it."""
    name = str(made["metadata"]["name"])
    strategy = "Always" if wants_to_run(ctx) else "Halted"
    if strategy == "Always":
        source.require_off(ctx, provider, now, "source and target must never run at the same time")
    # It may have been settled since the machine was asked for: then the source is on, or about to be.
    holding.require(ctx, STEP, {VmPhase.CREATING, VmPhase.VERIFIED}, clear="prepare")
    if made["spec"].get("runStrategy") != strategy:
        made = machines.set_run_strategy(cluster, name, ctx.namespace, strategy)
    ctx.log(f"{ctx.vm.name}: VirtualMachine {ctx.namespace}/{name} is there, run strategy {strategy}")
    return made


def _remove_if_settled_meanwhile(ctx: VmContext, cluster: Cluster, made: dict[str, Any]) -> None:
    """Remove the machine that this step made if the run was settled meanwhile: nobody else knows of it."""
    row = ctx.store.vm(*ctx.key)
    if row.holder == ctx.run.id and row.phase not in holding.UNDOING:
        return
    name = str(made["metadata"]["name"])
    there = cluster.get(VIRTUAL_MACHINES, name, ctx.namespace)
    if there is not None and there["metadata"]["uid"] == made["metadata"]["uid"]:
        ctx.log(f"{ctx.vm.name}: the run was settled meanwhile; removing VirtualMachine {ctx.namespace}/{name}")
        machines.stop(cluster, name, ctx.namespace)
        cluster.delete(VIRTUAL_MACHINES, name, ctx.namespace)


def wants_to_run(ctx: VmContext) -> bool:
    """Whether the target VM is to run: as the plan says, by default as the source did before the factory touched it."""
    if ctx.vm.target_power_state == "auto":
        return source.original_power(ctx) is PowerState.ON
    return ctx.vm.target_power_state == "on"
