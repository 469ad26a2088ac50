"""Taking a VM for a run, also from a run that ended without settling it."""

from __future__ import annotations

from mtv.model.errors import MtvError
from mtv.model.evidence import VmPhase
from mtv.steps.context import RunContext, VmContext
from mtv.steps.settle import end_undoing, settle_leftover
from mtv.store import VmRow


def take(ctx: VmContext) -> VmRow:
    """Claim the VM's row for this run and return it as claimed.

    A run that has ended but still holds the VM (its worker died) is settled first; undoing that this run has begun is
    ended first. A run whose tasks are cleared after its end becomes active again. A VM that turns out to be migrated is
    not claimed. Raises `HeldByAnother` while the other run is active, `RunRefused` while the plan is.
    """
    _be_active(ctx)  # or else another run may be about to settle the VM
    end_undoing(ctx, during="prepare")
    _be_active(ctx)  # the last of its VMs that is settled ends a run
    settle_leftover(ctx, ctx.vm.id)
    row = ctx.store.vm(*ctx.key)
    return row if row.phase is VmPhase.MIGRATED else ctx.store.claim_vm(*ctx.key, ctx.run.id)


def _be_active(ctx: VmContext) -> None:
    if ctx.store.run(ctx.run.id).state != "running":
        ctx.store.start_run(
            plan_hash=ctx.run.plan_hash,
            plan_name=ctx.plan.name,
            wave=ctx.run.wave,
            dag_id=ctx.run.dag_id,
            dag_run_id=ctx.run.dag_run_id,
        )


def settle_leftovers(ctx: RunContext) -> None:
    """Settle every VM of the wave that an ended run still holds; one that cannot be settled now fails in `prepare`."""
    for vm in ctx.wave.vms:
        try:
            settle_leftover(ctx, vm.id)
        except MtvError as error:
            ctx.log(f"{vm.name}: cannot be settled now: {error}")
