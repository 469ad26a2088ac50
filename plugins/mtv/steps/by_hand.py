"""What an operator decides about runs and VMs whose tasks nobody will start again: for `mtv runs`, never for a task.

Airflow settles the VMs of every run that it still has. A run that it has lost (deleted, its DAG removed, its database
reset) stays active in the store; once it is closed, the next run of the plan settles what it holds. A VM whose source
or target is gone for good cannot be settled by anybody; it can only be let go.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Literal

import msgspec

from mtv.model.errors import PermanentError
from mtv.model.evidence import EvidenceKind, VmPhase
from mtv.model.near_names import nearest
from mtv.model.transfer import Failure
from mtv.steps import holding
from mtv.store import Run, SourceChange, StepRow, Store, VmRow

Gone = Literal["source", "target", "both"]
QUIET = timedelta(hours=1)
"""A run that has left no trace for so long, and in which no step is open, is not worked on."""


def held_by(store: Store, run: Run) -> list[VmRow]:
    """Return the VMs that a run holds, whether it is active or not."""
    return [row for row in store.vms(run.plan_name) if row.holder == run.id]


def close_run(
    store: Store, run_id: str, *, by: str, reason: str, airflow_lost_it: bool, now: datetime | None = None
) -> list[VmRow]:
    """Finish an active run in the store and return the VMs that it still holds; nothing else is touched.

    Raises `PermanentError` for a run that has ended, and, unless `airflow_lost_it`, for one that may be worked on.
    """
    run = store.run(run_id)
    if run.state != "running":
        raise PermanentError(
            f"run {run.id} has ended already ({run.state})", cure="there is nothing to close", code="run-ended"
        )
    held = held_by(store, run)
    if not airflow_lost_it:
        _refuse_while_worked_on(store, run, held, now or datetime.now(UTC))
    document = {"what": "run closed", "by": by, "reason": reason, "held": [row.vm_id for row in held]}
    store.add_evidence(run.id, "", EvidenceKind.BY_HAND, document)
    for step in store.open_steps(run.id, ""):
        store.end_step(step.id, state="failed", error=f"cut off: {by} closed the run by hand")
    phases = {row.vm_id: row.phase for row in store.vms(run.plan_name)}
    migrated = run.frozen_vms is not None and all(phases.get(vm) is VmPhase.MIGRATED for vm in run.frozen_vms)
    store.finish_run(run.id, "success" if migrated else "failed")
    return held


def _refuse_while_worked_on(store: Store, run: Run, held: list[VmRow], now: datetime) -> None:
    steps = store.steps(run.id)
    is_open = [step for step in steps if step.state == "running"]
    last = max(_traces(store, run, steps, held))
    if not is_open and now - last >= QUIET:
        return
    doing = ", ".join(f"{step.step}{f' of {step.vm_id}' if step.vm_id else ''}" for step in is_open[:5])
    raise PermanentError(
        f"Airflow may be working on run {run.id} ({run.dag_id} {run.dag_run_id}): its last trace is of"
        f" {last:%Y-%m-%d %H:%M} UTC{f', and not ended is {doing}' if doing else ''}",
        cure="mark the run failed in Airflow, which settles its VMs; if Airflow no longer has it, or nothing schedules"
        " its tasks, add --airflow-lost-it",
        code="run-alive",
    )


def _traces(store: Store, run: Run, steps: list[StepRow], held: list[VmRow]) -> Iterator[datetime]:
    yield run.started_at
    for step in steps:
        yield step.finished_at or step.started_at
    yield from (row.recorded_at for row in store.evidence(run.id))
    yield from (row.updated_at for row in store.progress(run.id))
    yield from (row.updated_at for row in held if row.updated_at is not None)


class LetGo(msgspec.Struct, frozen=True, kw_only=True):
    """A VM that was let go: its row before, the run that held it, and changes of its source that stay as they are."""

    before: VmRow
    run: Run
    open_changes: tuple[SourceChange, ...]


def forget_vm(store: Store, plan_name: str, vm_id: str, *, gone: Gone, by: str, reason: str) -> LetGo:
    """Let go of a VM that an ended run holds, without settling it. Neither source nor target is touched or asked.

    While its target is there, a VM that exists on it keeps its phase, so that nothing is copied below its feet.
    Raises `PermanentError` for a VM that nobody holds, and for one of an active run.
    """
    row = store.vm(plan_name, vm_id)
    if not row.holder:
        raise _nothing_held(store, plan_name, row)
    run = store.run(row.holder)
    if run.state == "running":
        raise PermanentError(
            f"run {run.id} is active and holds {vm_id}", cure=f"mtv runs close {run.id}", code="run-active"
        )
    changes = tuple(store.open_source_changes(plan_name, vm_id))
    document = {
        "what": "VM let go",
        "by": by,
        "reason": reason,
        "gone": gone,
        "phase": row.phase.value,
        "source_changes": [{"kind": change.kind, **change.detail} for change in changes],
    }
    store.add_evidence(run.id, vm_id, EvidenceKind.BY_HAND, document)
    failure = Failure(
        code="let-go",
        message=f"{by} let the VM go while it was {row.phase.value}, unsettled: {reason}",
        retryable=False,
    )
    told = {"step": "forget", **msgspec.to_builtins(failure)}
    store.add_evidence(run.id, vm_id, EvidenceKind.FAILURE, told, subject="forget")
    for step in store.open_steps(run.id, vm_id):
        store.end_step(step.id, state="failed", error=f"cut off: {by} let the VM go by hand")
    stays = gone == "source" and row.phase in holding.ON_THE_TARGET | {VmPhase.ACCEPTING}
    store.bump_epoch(plan_name, vm_id, run.id)
    store.release_vm(plan_name, vm_id, run.id, row.phase if stays else VmPhase.FAILED)
    return LetGo(before=row, run=run, open_changes=changes)


def _nothing_held(store: Store, plan_name: str, row: VmRow) -> PermanentError:
    known = [other.vm_id for other in store.vms(plan_name)]
    if row.vm_id in known:
        return PermanentError(
            f"no run holds {row.vm_id} of plan {plan_name} (it is {row.phase.value})",
            cure="there is nothing to let go",
            code="not-held",
        )
    if not known:
        said, cure = f"no run of a plan {plan_name} has touched a VM", "`mtv runs` lists the plans that ran"
    else:
        near = nearest(row.vm_id, known)
        said = f"no run of plan {plan_name} has touched a VM {row.vm_id}"
        cure = f"is it {near}?" if near else "name its id, as the plan's report has it"
    return PermanentError(said, cure=cure, code="vm-unknown")
