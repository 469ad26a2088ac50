"""Step create_vm: make the VirtualMachine, halted, and then give it the power state that the plan asks for."""

from __future__ import annotations

from mtv.kubevirt import machines
from mtv.model.errors import DriftError, PermanentError
from mtv.model.evidence import EvidenceKind, VmPhase
from mtv.model.source import PowerState
from mtv.steps import claiming, holding, layout, source
from mtv.steps.context import VmContext
from mtv.steps.journal import recorded

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
            made = machines.ensure(cluster, layout.machine(ctx, now, decided))
            name = str(made["metadata"]["name"])
            strategy = "Always" if wants_to_run(ctx) else "Halted"
            if strategy == "Always":
                source.require_off(ctx, provider, now, "source and target must never run at the same time")
            if made["spec"].get("runStrategy") != strategy:
                made = machines.set_run_strategy(cluster, name, ctx.namespace, strategy)
            ctx.log(f"{ctx.vm.name}: VirtualMachine {ctx.namespace}/{name} is there, run strategy {strategy}")
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
            ctx.store.advance(*ctx.key, ctx.run.id, VmPhase.CREATED, expect={VmPhase.CREATING})


def wants_to_run(ctx: VmContext) -> bool:
    """Whether the target VM is to run: as the plan says, by default as the source did before the factory touched it."""
    if ctx.vm.target_power_state == "auto":
        return source.original_power(ctx) is PowerState.ON
    return ctx.vm.target_power_state == "on"
