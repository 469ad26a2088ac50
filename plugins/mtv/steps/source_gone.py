"""The source VM was deleted or unregistered while it was migrated: what the target has may be the only copy there is.

Proven gone means that the source answers and knows neither the VM's id nor its uuid. A source that does not answer, or
that has the VM under another id, proves nothing. Nothing of such a VM is removed or marked as stale; it is let go, and
no later run writes to its disks before a person has said so.
"""

from __future__ import annotations

from mtv.kubevirt import labels, volumes
from mtv.kubevirt.cluster import Cluster
from mtv.model.errors import MtvError, PermanentError
from mtv.steps import source, target_objects
from mtv.steps.context import VmContext

_WRITTEN = (labels.COPYING, labels.DIGEST, labels.CONVERTING)


def is_proven(ctx: VmContext, *, must_know: bool) -> bool:
    """Whether the VM is gone from its source.

    With `must_know` and a VM that has to be started again, raises the source's error when it cannot be asked: nobody
    removes a target whose source may be gone. Else one that cannot be asked counts as being there.
    """
    before = source.as_touched(ctx)
    if before is None:
        return False
    try:
        with ctx.provider(ctx.vm.source) as provider:
            return source.as_known_now(ctx, provider, before) is None
    except MtvError as error:
        if must_know and source.is_to_be_started(ctx):
            raise
        ctx.log(f"{ctx.vm.name}: whether it is still on its source is not known: {error.message}")
        return False


def leave_all(ctx: VmContext, cluster: Cluster) -> PermanentError:
    """Mark the disks that hold anything as what may be the only copy, and return what to tell."""
    kept = [
        claim["metadata"]["name"]
        for claim in target_objects.disks(ctx, cluster)
        if any(note in (claim["metadata"].get("annotations") or {}) for note in _WRITTEN)
    ]
    for name in kept:
        volumes.mark(cluster, ctx.namespace, name, {labels.ONLY_COPY: ctx.run.id})
    held = f"; {', '.join(kept)} in {ctx.namespace} may be the only copy of it" if kept else ""
    return PermanentError(
        f"{ctx.vm.source} knows {ctx.vm.name} no more: it was deleted or unregistered, or the user may not see it"
        f"{held}; nothing was removed, and nothing is started",
        cure="build a VM on those claims, or register the source again; then remove their annotation mtv/only-copy, "
        "or the claims themselves, before the next run",
        code="source-gone",
    )


def is_kept(ctx: VmContext, cluster: Cluster) -> bool:
    """Whether disks of the VM may be the only copy of it, as a run has found that nobody has judged since."""
    return bool(_kept(ctx, cluster))


def refuse_kept(ctx: VmContext, cluster: Cluster) -> None:
    """Raise `PermanentError` rather than write to disks that may be the only copy."""
    if kept := _kept(ctx, cluster):
        raise PermanentError(
            f"{ctx.vm.name}: run {kept[0][1]} found its source gone, and the only copy of it may be "
            f"{', '.join(name for name, _ in kept)}",
            cure=f"if not: kubectl annotate pvc -n {ctx.namespace} {kept[0][0]} {labels.ONLY_COPY}-",
            code="only-copy",
        )


def _kept(ctx: VmContext, cluster: Cluster) -> list[tuple[str, str]]:
    notes = {
        claim["metadata"]["name"]: (claim["metadata"].get("annotations") or {}).get(labels.ONLY_COPY, "")
        for claim in target_objects.disks(ctx, cluster)
    }
    return [(name, run) for name, run in notes.items() if run]
