"""What `settle` does with a VM is decided once and kept as its phase before anything is done: a repetition ends that.

A VM that is verified becomes the migrated one, unless its source was started again since it was copied; every other is
undone as its plan says. Nothing that happens in between makes one of the other: no step goes on in these phases.
"""

from __future__ import annotations

from mtv.kubevirt.cluster import Cluster
from mtv.kubevirt.machines import Accepted
from mtv.model.errors import DriftError, MtvError
from mtv.model.evidence import DECIDED, VmPhase
from mtv.steps import started_again
from mtv.steps.context import VmContext
from mtv.steps.journal import add_failure


def decide(ctx: VmContext, cluster: Cluster, phase: VmPhase, accepted: Accepted | None) -> VmPhase:
    """Return ACCEPTING, ROLLING_BACK or HOLDING, as it was decided before or is now, and keep it.

    `accepted` is the target VM that some run has accepted: nothing can speak against that any more.
    """
    if phase in DECIDED:
        return phase
    if phase is VmPhase.VERIFIED and (accepted is not None or _may_be_accepted(ctx, cluster)):
        decided, expect = VmPhase.ACCEPTING, {VmPhase.VERIFIED}
    else:
        decided, expect = (VmPhase.HOLDING if ctx.vm.on_failure == "hold" else VmPhase.ROLLING_BACK), None
    ctx.store.advance(*ctx.key, ctx.run.id, decided, expect=expect)
    return decided


def _may_be_accepted(ctx: VmContext, cluster: Cluster) -> bool:
    """Whether the source is still what was copied; one that cannot be asked was, when `verify` asked it."""
    try:
        with ctx.provider(ctx.vm.source) as provider:
            started_again.refuse(ctx, provider, started_again.claims_now(ctx, cluster))
    except DriftError as error:
        ctx.log(f"{ctx.vm.name}: {error.message}: the target is not accepted")
        add_failure(ctx, "settle", error)
        return False
    except MtvError as error:
        ctx.log(f"{ctx.vm.name}: WARNING: accepted without another look at its source: {error.message}")
    return True
