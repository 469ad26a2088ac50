"""Closing a run: what became of its VMs, read from their rows."""

from __future__ import annotations

from mtv.model.evidence import EvidenceKind, VmPhase
from mtv.steps.context import RunContext


def not_migrated(ctx: RunContext) -> dict[str, str]:
    """Return why each pinned VM of the run is not migrated, by VM id; empty when all are."""
    reasons: dict[str, str] = {}
    for vm_id in ctx.store.run(ctx.run.id).frozen_vms or ():
        phase = ctx.store.vm(ctx.plan.name, vm_id).phase
        if phase is VmPhase.MIGRATED:
            continue
        failures = ctx.store.evidence(ctx.run.id, vm_id, EvidenceKind.FAILURE)
        # The newest failure of a step counts; one of settle only when there is no other: it is seldom the cause.
        documents = [row.document for row in failures]
        last = [document for document in documents if document.get("step") != "settle"] or documents
        reasons[vm_id] = f"{last[-1]['step']}: {last[-1]['message']}" if last else f"is {phase.value}"
    return reasons


def close(ctx: RunContext) -> None:
    """Finish the run in the store: success when every pinned VM is migrated. Repeating it is harmless."""
    pinned = ctx.store.run(ctx.run.id).frozen_vms
    ctx.store.finish_run(ctx.run.id, "success" if pinned is not None and not not_migrated(ctx) else "failed")


def close_when_settled(ctx: RunContext) -> None:
    """Finish the run when the last of its VMs is settled: a run that is marked failed never gets to its verdict."""
    settled = {row.vm_id for row in ctx.store.evidence(ctx.run.id, kind=EvidenceKind.SETTLED)}
    rows = {row.vm_id: row for row in ctx.store.vms(ctx.plan.name)}
    for vm_id in ctx.store.run(ctx.run.id).frozen_vms or ():
        if vm_id not in settled or (vm_id in rows and rows[vm_id].holder == ctx.run.id):
            return
    close(ctx)
