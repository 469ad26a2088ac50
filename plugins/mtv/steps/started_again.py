"""Was the source started again since it was copied? Then the copy lacks what its guest has written since.

It may have been stopped again, too: that it is off says little, the generations of its disks say it. Every step that
builds on the copy asks: `transfer` and `create_vm` by reading the source with all that may have drifted, others here.
"""

from __future__ import annotations

from collections.abc import Mapping

from mtv.kubevirt.cluster import Cluster
from mtv.kubevirt.volumes import DiskState
from mtv.model.errors import DriftError, PermanentError
from mtv.model.source import PowerState
from mtv.providers.base import Provider
from mtv.providers.power import refuse_while_unknown
from mtv.steps import layout, source
from mtv.steps.context import VmContext


def refuse(ctx: VmContext, provider: Provider, found: Mapping[str, DiskState] | None) -> None:
    """Raise `DriftError` when the source runs, or was started since its disks were copied to the claims of `found`.

    None of claims: only whether it runs is asked. Raises `TemporaryError` while the source does not say.
    """
    copied = source.final(ctx)
    now = source.find(provider, copied)
    if now is None:
        return  # deleted: nobody starts it any more
    power = provider.power_state(now)
    refuse_while_unknown(ctx.vm.name, power)
    if power is not PowerState.OFF:
        raise _started(ctx, f"it is {power.value} on the source")
    if found is None or now.id != copied.id:
        return
    if not layout.all_proven(source.as_seen_before(ctx, provider, now), dict(found)):
        raise _started(ctx, "its disks on the source are not those that were copied any more")


def claims_now(ctx: VmContext, cluster: Cluster) -> dict[str, DiskState] | None:
    """Return what the VM's claims say; None when some are gone, which others tell of."""
    try:
        return layout.states(ctx, cluster, layout.recorded(ctx))
    except PermanentError as error:
        if error.code != "claims-missing":
            raise
        ctx.log(error.message)
        return None


def _started(ctx: VmContext, how: str) -> DriftError:
    return DriftError(
        f"{ctx.vm.name} was started or changed since it was copied: {how}",
        cure="leave it off until it is migrated; the next run copies what its guest has written since",
        code="source-started-again",
    )
