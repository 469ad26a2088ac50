"""Copies that a source has to make of its disks before a pod can read them: announced before, removed afterwards."""

from __future__ import annotations

from mtv.model.errors import PermanentError, TemporaryError
from mtv.model.source import SourceVm
from mtv.providers.base import MakesCopies, Provider
from mtv.steps import source
from mtv.steps.context import VmContext

COPIES = "copies"
"""Kind of the source change that is recorded before the first copy is made."""


def announce(ctx: VmContext, provider: Provider, vm: SourceVm) -> None:
    """Record that copies of the VM's disks will be made on the source, if this provider makes any."""
    if not isinstance(provider, MakesCopies):
        return
    ctx.log(f"{ctx.vm.name}: the source makes readable copies of {len(vm.disks)} disks; this may take long")
    if not any(change.kind == COPIES for change in ctx.store.open_source_changes(*ctx.key)):
        detail = {"connection": ctx.vm.source, "name": vm.name, "source_id": vm.id}
        ctx.store.record_source_change(ctx.run.id, ctx.vm.id, COPIES, detail)


def remove(ctx: VmContext) -> list[str]:
    """Remove the copies that were announced, after the pods that read them; return their names.

    A source that does not answer must not keep a VM from being settled: the change then stays on record, and the next
    run of the VM removes them.
    """
    changes = [change for change in ctx.store.open_source_changes(*ctx.key) if change.kind == COPIES]
    vm = source.seen(ctx, ctx.vm.id)
    if not changes or vm is None:
        return []
    try:
        with ctx.provider(ctx.vm.source) as provider:
            removed = provider.release_disks(vm) if isinstance(provider, MakesCopies) else []
    except (PermanentError, TemporaryError) as error:
        ctx.log(f"{ctx.vm.name}: copies of its disks are left on {ctx.vm.source}: {error.message}")
        return []
    for change in changes:
        ctx.store.undo_source_change(change.id)
    return [f"source: {name}" for name in removed]
