"""Copies that a source has to make of its disks before a pod can read them: announced before, removed afterwards."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

from mtv.model.errors import PermanentError, TemporaryError
from mtv.model.evidence import EvidenceKind
from mtv.model.source import SourceVm
from mtv.providers.base import MakesCopies, Provider
from mtv.steps import source
from mtv.steps.context import RunContext, VmContext
from mtv.store import SourceChange

COPIES = "copies"
"""Kind of the source change that is recorded before the first copy is made."""


class Removal(NamedTuple):
    """Names of what was removed, and in words what a source still has because it did not let it be removed."""

    removed: list[str]
    left: list[str]


def announce(ctx: VmContext, provider: Provider, vm: SourceVm) -> None:
    """Record that this run makes copies of the VM's disks on the source, if this provider makes any."""
    if not isinstance(provider, MakesCopies):
        return
    ctx.log(f"{ctx.vm.name}: the source makes readable copies of {len(vm.disks)} disks; this may take long")
    if not any(change.run_id == ctx.run.id for change in _open(ctx, ctx.vm.id)):
        detail = {"connection": ctx.vm.source, "name": vm.name, "source_id": vm.id}
        ctx.store.record_source_change(ctx.run.id, ctx.vm.id, COPIES, detail)


def remove(ctx: RunContext, vm_id: str) -> Removal:
    """Remove the copies that runs have announced for a VM of the plan, after the pods that read them.

    A source that does not let them be removed raises nothing: the change stays on record, and whoever asks next tries
    again.
    """
    done = Removal([], [])
    for change in _open(ctx, vm_id):
        name, connection = change.detail["name"], change.detail["connection"]
        try:
            removed = _release(ctx, change)
        except (PermanentError, TemporaryError) as error:
            ctx.log(f"{name}: copies of its disks are left on {connection}: {error.message}")
            done.left.append(f"{connection}: copies of the disks of {name}")
            continue
        ctx.store.undo_source_change(change.id)
        done.removed.extend(f"source: {each}" for each in removed)
    return done


def remove_left(ctx: RunContext) -> None:
    """Remove what settled runs of the plan had to leave on sources. VMs that a run holds are that run's business."""
    for vm_id in dict.fromkeys(change.vm_id for change in _open(ctx)):
        if not ctx.store.vm(ctx.plan.name, vm_id).holder and not _may_be_the_only_copy(ctx, vm_id):
            for name in remove(ctx, vm_id).removed:
                ctx.log(f"{vm_id}: removed what an earlier run had left: {name}")


def _may_be_the_only_copy(ctx: RunContext, vm_id: str) -> bool:
    settled = ctx.store.latest_evidence(ctx.plan.name, vm_id, EvidenceKind.SETTLED)
    return settled is not None and settled.get("outcome") == "source gone"


def _open(ctx: RunContext, vm_id: str | None = None) -> list[SourceChange]:
    return [change for change in ctx.store.open_source_changes(ctx.plan.name, vm_id) if change.kind == COPIES]


def _release(ctx: RunContext, change: SourceChange) -> list[str]:
    """Remove the copies of one run: those of the VM as that run saw it."""
    vm = source.seen(dataclasses.replace(ctx, run=ctx.store.run(change.run_id)), change.vm_id)
    if vm is None:
        raise PermanentError(f"run {change.run_id} has no snapshot of the VM", code="no-snapshot")
    with ctx.provider(change.detail["connection"]) as provider:
        return provider.release_disks(vm) if isinstance(provider, MakesCopies) else []
