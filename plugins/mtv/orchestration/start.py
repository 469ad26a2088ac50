"""May a run of a wave start now? Asked once, by `freeze`, before anything is touched."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from mtv.model.errors import PermanentError
from mtv.model.evidence import VmPhase
from mtv.model.plan import Approval, Plan, Wave
from mtv.orchestration.outline import Outline
from mtv.plan.windows import check_window

if TYPE_CHECKING:
    from mtv.store import Store


def refuse_start(store: Store, plan: Plan, outline: Outline, *, parallelism: int, now: datetime | None = None) -> None:
    """Raise `PermanentError` when the wave must not start: window, earlier waves, approval, or too small a store."""
    from mtv.store import refuse_small_database

    wave = plan.wave(outline.wave)
    if wave.window is not None:
        check_window(wave.window, now or datetime.now(UTC))
    for earlier in wave.start_after:
        _check_completed(store, plan, earlier)
    if wave.approval is not None:
        check_approved(store, plan, wave, wave.approval)
    refuse_small_database(store, parallelism=parallelism, added_vms=outline.vm_count)


def check_approved(store: Store, plan: Plan, wave: Wave, wanted: Approval) -> None:
    """Raise `PermanentError` unless somebody who may has approved the wave's VMs with the plan as it is."""
    from mtv.store.runs import hash_of

    approvals = store.approvals(plan.name, wave.name)
    missing = [vm.name for vm in wave.vms if vm.id not in approvals]
    strangers = sorted({one.by for one in approvals.values()} - set(wanted.by)) if wanted.by else []
    if missing:
        why = f"nobody has approved {', '.join(missing[:5])}{' and more' if len(missing) > 5 else ''}"
    elif strangers:
        why = f"{', '.join(strangers)} may not approve it"
    elif {one.plan_hash for one in approvals.values()} - {hash_of(plan)}:
        why = "the plan has changed since it was approved"
    else:
        return
    by = " or ".join(wanted.by) or "WHO"
    raise PermanentError(
        f"wave {wave.name} is not approved: {why}",
        cure=f"mtv plan approve PLAN --wave {wave.name} --by {by}, and start the run again",
        code="WaveNotApproved",
    )


def _check_completed(store: Store, plan: Plan, wave_name: str) -> None:
    migrated = {row.vm_id for row in store.vms(plan.name) if row.phase is VmPhase.MIGRATED}
    missing = [vm.name for vm in plan.wave(wave_name).vms if vm.id not in migrated]
    if missing:
        shown = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
        raise PermanentError(
            f"wave {wave_name} has not completed: {shown}", cure=f"run wave {wave_name} first", code="WaveTooEarly"
        )
