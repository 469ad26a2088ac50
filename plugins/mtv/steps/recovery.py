"""Taking a VM for a run, also from a run that ended without settling it."""

from __future__ import annotations

import dataclasses

from mtv.model.errors import MtvError
from mtv.steps.context import RunContext, VmContext
from mtv.steps.settle import settle
from mtv.store import HeldByAnother, VmRow


def take(ctx: VmContext) -> VmRow:
    """Claim the VM's row for this run and return it as claimed.

    A run that has ended but still holds the VM (its worker died) is settled first. A run whose tasks are cleared after
    its end becomes active again. Raises `HeldByAnother` while the other run is active, `RunRefused` while the plan is.
    """
    if ctx.store.run(ctx.run.id).state != "running":
        ctx.store.start_run(
            plan_hash=ctx.run.plan_hash,
            plan_name=ctx.plan.name,
            wave=ctx.run.wave,
            dag_id=ctx.run.dag_id,
            dag_run_id=ctx.run.dag_run_id,
        )
    settle_leftover(ctx, ctx.vm.id)
    return ctx.store.claim_vm(*ctx.key, ctx.run.id)


def settle_leftover(ctx: RunContext, vm_id: str) -> None:
    """Settle a VM on behalf of a run that has ended but still holds it; otherwise do nothing."""
    holder = ctx.store.vm(ctx.plan.name, vm_id).holder
    if not holder or holder == ctx.run.id:
        return
    run = ctx.store.run(holder)
    if run.state == "running":
        raise HeldByAnother(
            f"VM {vm_id} of plan {ctx.plan.name} is held by run {holder}", cure="wait for it, or mark it failed"
        )
    ctx.log(f"{vm_id}: run {holder} ended without settling it; settling it now")
    own = {field.name: getattr(ctx, field.name) for field in dataclasses.fields(RunContext)}
    former = RunContext(**{**own, "run": run, "plan": ctx.store.plan(run.plan_hash)})
    settle(former.for_vm(vm_id))


def settle_leftovers(ctx: RunContext) -> None:
    """Settle every VM of the wave that an ended run still holds; one that cannot be settled now fails in `prepare`."""
    for vm in ctx.wave.vms:
        try:
            settle_leftover(ctx, vm.id)
        except MtvError as error:
            ctx.log(f"{vm.name}: cannot be settled now: {error}")
