"""What a run knows of a VM's source: as pinned when the run began, as it was after power-off, and as it is now."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from mtv.inventory import drift
from mtv.model.errors import ConnectionRefused, DriftError, PermanentError, TemporaryError
from mtv.model.evidence import DECIDED, EvidenceKind
from mtv.model.source import PowerState, SourceVm
from mtv.providers.base import ForgetsStarts, Provider
from mtv.providers.power import refuse_while_unknown
from mtv.steps import clusters, windows
from mtv.steps.context import RunContext, VmContext
from mtv.store import EvidenceRow, SourceChange

FINAL = "final"
"""Subject of the SOURCE evidence taken after power-off; the pinned one has no subject."""
NAMESAKE = "namesake"
"""Subject of the SOURCE evidence of a second VM with the name: the plan cannot tell which of them is meant."""
POWER = "power"
"""Kind of the source change that is recorded before the source is shut down."""


def pin(ctx: RunContext, vm_id: str, vm: SourceVm, *, subject: str = "") -> None:
    """Keep what was seen of a source VM as evidence."""
    ctx.store.add_evidence(ctx.run.id, vm_id, EvidenceKind.SOURCE, msgspec.to_builtins(vm), subject=subject)


def seen(ctx: RunContext, vm_id: str, *, subject: str = "") -> SourceVm | None:
    """Return what this run saw last of a source VM, or None."""
    row = _last(ctx, vm_id, subject)
    return msgspec.convert(row.document, SourceVm) if row is not None else None


def _last(ctx: RunContext, vm_id: str, subject: str) -> EvidenceRow | None:
    rows = [row for row in ctx.store.evidence(ctx.run.id, vm_id, EvidenceKind.SOURCE) if row.subject == subject]
    return rows[-1] if rows else None


def pinned(ctx: VmContext) -> SourceVm:
    """Return the VM as it was when the run began. Raises `PermanentError` naming `snapshot_inventory`."""
    found = seen(ctx, ctx.vm.id)
    if found is None:
        raise PermanentError(
            f"{ctx.vm.name}: this run has no snapshot of the VM",
            cure="clear the task snapshot_inventory",
            code="no-snapshot",
        )
    return found


def final(ctx: VmContext) -> SourceVm:
    """Return the VM as it was after power-off, in the state that is copied. Raises `PermanentError`."""
    found = seen(ctx, ctx.vm.id, subject=FINAL)
    if found is None:
        raise PermanentError(
            f"{ctx.vm.name}: prepare has not read the VM after power-off",
            cure="clear the task prepare",
            code="not-prepared",
        )
    return found


def read(ctx: VmContext, provider: Provider) -> SourceVm:
    """Read the VM now. Raises `DriftError` when it is gone, another one, or no longer what was pinned.

    Raises `TemporaryError` while the source does not say whether it runs.
    """
    before = pinned(ctx)
    found = provider.vms([ctx.vm.name])
    # A namesake that appeared meanwhile is nobody's concern: the id says which one was validated.
    now = next((vm for vm in found if vm.id == before.id), next(iter(found), None))
    if now is None:
        raise DriftError(
            f"{ctx.vm.source} has no VM of this name any more: {ctx.vm.name}",
            cure="if it was renamed, mend the name in the plan; then start a new run",
            code="source-gone",
        )
    if now.id != before.id:
        raise DriftError(
            f"{ctx.vm.name} is another VM now ({now.id} instead of {before.id})", cure="start a new run", code="drift"
        )
    refuse_while_unknown(ctx.vm.name, now.power)
    changes = drift(before, _without_our_own_change(ctx, before, now))
    if changes:
        raise DriftError(
            f"{ctx.vm.name} changed since it was validated: {'; '.join(changes)}",
            cure="start a new run, which reads and validates it again",
            code="drift",
        )
    return as_seen_before(ctx, provider, now)


def find(provider: Provider, before: SourceVm) -> SourceVm | None:
    """Return the VM as its source knows it: by its id, whatever it is called, else as the only one with its uuid.

    A VM that cannot be read whole may not be listed, so its id alone is asked for, too. Raises `ConnectionRefused` for
    one that the user may not see.
    """
    now = _by_id(provider.vms([before.name]), before)
    if now is not None:
        return now
    everything = provider.vms()
    now = _by_id(everything, before)
    if now is not None:
        return now
    try:
        provider.power_state(before)
    except ConnectionRefused:
        raise
    except PermanentError:
        same = [vm for vm in everything if before.uuid and vm.uuid.lower() == before.uuid.lower()]
        return same[0] if len(same) == 1 else None
    return before


def _by_id(found: Iterable[SourceVm], before: SourceVm) -> SourceVm | None:
    return next((vm for vm in found if vm.id == before.id), None)


def as_seen_before(ctx: VmContext, provider: Provider, now: SourceVm) -> SourceVm:
    """Return the VM in the generations in which this run copies it, where the source has merely forgotten events."""
    if not isinstance(provider, ForgetsStarts):
        return now
    before = _last(ctx, ctx.vm.id, FINAL)
    if before is None:
        return now
    return provider.as_seen_before(now, msgspec.convert(before.document, SourceVm), before.recorded_at)


def _without_our_own_change(ctx: VmContext, before: SourceVm, now: SourceVm) -> SourceVm:
    """Return the VM as if it still ran as pinned, where it is this plan that shut it down or started it again.

    A platform may place a VM elsewhere when it is started, and one that is off may be nowhere.
    """
    if now.power is before.power or not _changed_by_us(ctx, now.power):
        return now
    document = {key: value for key, value in now.document.items() if key != "host"}
    if "host" in before.document:
        document["host"] = before.document["host"]
    return msgspec.structs.replace(now, power=before.power, host=before.host, document=document)


def _changed_by_us(ctx: VmContext, power: PowerState) -> bool:
    if power is PowerState.OFF:
        return bool(_shutdowns(ctx))
    # A run that has settled may have started it again, and was then told to go on.
    return power is PowerState.ON and bool(ctx.store.evidence(ctx.run.id, ctx.vm.id, EvidenceKind.SETTLED))


def original_power(ctx: VmContext) -> PowerState:
    """Return whether the VM ran before the factory touched it: an earlier run may have shut it down and held it."""
    if any(change.detail.get("before") == PowerState.ON for change in _shutdowns(ctx)):
        return PowerState.ON
    return pinned(ctx).power


def require_off(ctx: VmContext, provider: Provider, vm: SourceVm, why: str) -> None:
    """Make sure that the source is seen off now. Raises `PermanentError` saying what may not happen otherwise.

    Raises `TemporaryError` while the source does not say whether it runs.
    """
    power = provider.power_state(vm)
    refuse_while_unknown(ctx.vm.name, power)
    if power is not PowerState.OFF:
        raise PermanentError(
            f"{ctx.vm.name} is {power.value} on the source; {why}",
            cure="clear the task prepare of this VM, which shuts it down",
            code="source-not-off",
        )


def shut_down(ctx: VmContext, provider: Provider, vm: SourceVm) -> None:
    """Bring the source to power-off. The change is recorded before the call, so that it can be undone by name."""
    power = provider.power_state(vm)
    detail = {
        "before": PowerState.ON.value,
        "connection": ctx.vm.source,
        "name": vm.name,
        "source_id": vm.id,
        "identity": provider.identity(vm),
    }
    if power is PowerState.OFF:
        # One that another plan has shut down for itself is not one that was off: its rollback would start it.
        ctx.store.require_source_alone(*ctx.key, POWER, detail)
        _note_power(ctx, before=original_power(ctx), method="already off", seconds=0.0)
        return
    refuse_while_unknown(ctx.vm.name, power)
    if power is not PowerState.ON:
        raise PermanentError(
            f"{ctx.vm.name} is {power.value} on the source; its memory would be lost",
            cure="resume it or shut it down, then start a new run",
            code="source-suspended",
        )
    changes = _shutdowns(ctx)
    # A retry of a shutdown that was cut off is on record; one of a source that was started since is another one.
    was_cut_off = bool(changes) and not _was_seen_off(ctx, changes[0])
    if not was_cut_off or changes[0].run_id != ctx.run.id:
        windows.refuse_shutdown(ctx)
        ctx.store.record_source_change(ctx.run.id, ctx.vm.id, POWER, detail, alone=True)
    ctx.log(f"{ctx.vm.name}: shutting the source down (guest shutdown, at most {ctx.vm.shutdown_timeout_s} s)")
    started = ctx.clock()
    method = provider.power_off(vm, timeout_s=ctx.vm.shutdown_timeout_s, asked_before=was_cut_off)
    if provider.power_state(vm) is not PowerState.OFF:
        raise TemporaryError(f"{ctx.vm.name} is still on after {method}", code="source-still-on")
    _undo_if_settled_meanwhile(ctx, provider, vm)
    _note_power(ctx, before=PowerState.ON, method=method, seconds=round(ctx.clock() - started, 1))


def _undo_if_settled_meanwhile(ctx: VmContext, provider: Provider, vm: SourceVm) -> None:
    """Start the source again if the run was ended and settled while this shutdown was under way.

    Whoever settled believes the source on. While another run holds the VM, its power is that run's business.
    """
    row = ctx.store.vm(*ctx.key)
    if row.holder == ctx.run.id and row.phase not in DECIDED:
        return
    if row.holder in ("", ctx.run.id) and not _shutdowns(ctx):
        ctx.log(f"{ctx.vm.name}: the run was settled meanwhile; powering the source on again")
        provider.power_on(vm)
    raise PermanentError(
        f"{ctx.vm.name}: run {ctx.run.id} lost the VM while it shut the source down", code="settled-meanwhile"
    )


def as_touched(ctx: VmContext) -> SourceVm | None:
    """Return the VM as whoever shut it down saw it, else as it was when the run began; None when nobody saw it."""
    changes = _shutdowns(ctx)
    return _as_shut_down(ctx, changes[0]) if changes else seen(ctx, ctx.vm.id)


def is_to_be_started(ctx: VmContext) -> bool:
    """Whether a rollback has to start the source."""
    return bool(_shutdowns(ctx))


def give_up_starting(ctx: VmContext) -> None:
    """Close the shutdowns of a VM that is gone from its source: nothing is there that could be started."""
    for change in _shutdowns(ctx):
        ctx.store.undo_source_change(change.id)


def power_back_on(ctx: VmContext) -> PowerState:
    """Undo the recorded power change: start the source if it ran before. Return its power state as seen afterwards.

    The caller has proven that the target is stopped. The VM may have been registered anew under another id.
    """
    changes = _shutdowns(ctx)
    if not changes:
        return power_now(ctx)
    before = _as_shut_down(ctx, changes[0])
    with ctx.provider(ctx.vm.source) as provider:
        found = as_known_now(ctx, provider, before) or before
        if provider.power_state(found) is PowerState.ON and not _was_seen_off(ctx, changes[0]):
            # The guest may be on its way down and cannot be asked back: left alone now, it would be off in a minute.
            ctx.log(f"{ctx.vm.name}: the shutdown was cut off; finishing it before the source is started again")
            provider.power_off(found, timeout_s=ctx.vm.shutdown_timeout_s, asked_before=True)
        if provider.power_state(found) is not PowerState.ON:
            ctx.log(f"{ctx.vm.name}: powering the source on again")
            provider.power_on(found)
        power = provider.power_state(found)
        if power is not PowerState.ON:
            raise TemporaryError(f"{ctx.vm.name} is {power.value} after power-on", code="source-not-on")
    for change in changes:
        ctx.store.undo_source_change(change.id)
    return power


def as_known_now(ctx: VmContext, provider: Provider, before: SourceVm) -> SourceVm | None:
    """Return the VM as its source knows it now, None when it is gone.

    Raises `PermanentError` when the connection leads to another source than the one where the run took the VM, or
    where it was shut down: that one not knowing it would say nothing.
    """
    changes, mine = _shutdowns(ctx), clusters.taken(ctx)
    known = changes[0].detail.get("identity") if changes else mine and mine.source
    if known and known != (now := provider.identity(before)):
        raise PermanentError(
            f"{ctx.vm.name}: connection {ctx.vm.source} leads to another source than the one where the VM was shut down"
            f" ({now} instead of {known})",
            cure="point the connection at that source again; if it is gone for good, let go of the VM with"
            " `mtv runs forget`",
            code="another-source",
        )
    return find(provider, before)


def _shutdowns(ctx: VmContext) -> list[SourceChange]:
    """Return the shutdowns that nobody has undone, newest first.

    Those of a VM of another source, to which the connection led before this run took its own, are none of its business.
    """
    mine = clusters.taken(ctx)
    return [
        change
        for change in ctx.store.open_source_changes(*ctx.key)
        if change.kind == POWER and (mine is None or change.detail.get("identity", mine.source) == mine.source)
    ]


def _as_shut_down(ctx: VmContext, change: SourceChange) -> SourceVm:
    """Return the VM as the run that shut it down saw it. Its id leads to it, whatever it is called by now."""
    rows = ctx.store.evidence(change.run_id, ctx.vm.id, EvidenceKind.SOURCE)
    of_it = [row.document for row in rows if row.document["id"] == change.detail["source_id"]]
    return msgspec.convert(of_it[-1], SourceVm)


def _was_seen_off(ctx: VmContext, change: SourceChange) -> bool:
    """Whether the run that asked for the shutdown saw it through: a source that is on now was started since."""
    rows = ctx.store.evidence(change.run_id, ctx.vm.id, EvidenceKind.POWER)
    return any(row.recorded_at >= change.recorded_at for row in rows)


def power_now(ctx: VmContext) -> PowerState:
    """Return the source's power state for the record; UNKNOWN when the source does not answer."""
    before = seen(ctx, ctx.vm.id)
    if before is None:
        return PowerState.UNKNOWN
    try:
        with ctx.provider(ctx.vm.source) as provider:
            return provider.power_state(before)
    except (PermanentError, TemporaryError) as error:
        ctx.log(f"{ctx.vm.name}: the source's power state cannot be read: {error.message}")
        return PowerState.UNKNOWN


def _note_power(ctx: VmContext, *, before: PowerState, method: str, seconds: float) -> None:
    document = {"before": before.value, "method": method, "seconds": seconds}
    ctx.store.add_evidence(ctx.run.id, ctx.vm.id, EvidenceKind.POWER, document)
