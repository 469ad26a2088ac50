"""What happened: steps, evidence, changes on the source, progress. Evidence is only ever added."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec
from sqlalchemy import ColumnElement, and_, func, or_, select, text, update
from sqlalchemy.orm import Session

from mtv.model.evidence import DECIDED, EvidenceKind
from mtv.model.transfer import Progress
from mtv.store.errors import HeldByAnother, NotFound, StaleHolder
from mtv.store.rows import EvidenceRow, ProgressRow, SourceChange, StepRow
from mtv.store.runs import Runs
from mtv.store.tables import EvidenceRecord, ProgressRecord, SourceChangeRecord, StepRecord, VmRecord
from mtv.store.upsert import insert_or_replace


class Journal(Runs):
    """The part of the store about what steps did and saw."""

    def begin_step(self, run_id: str, vm_id: str, step: str) -> int:
        """Note that a step begins (`vm_id` empty: a step of the whole run); return the attempt's id."""
        self.run(run_id)
        record = StepRecord(
            run_id=run_id, vm_id=vm_id, step=step, state="running", error="", started_at=datetime.now(UTC)
        )
        with self._writing() as session:
            session.add(record)
            session.flush()
            return record.id

    def end_step(self, step_id: int, *, state: Literal["success", "failed", "skipped"], error: str = "") -> None:
        """Note how a step ended. The first end stays. Raises `NotFound` for an attempt that never began."""
        with self._writing() as session:
            session.execute(
                update(StepRecord)
                .where(StepRecord.id == step_id, StepRecord.state == "running")
                .values(state=state, error=error, finished_at=datetime.now(UTC))
            )
            if session.get(StepRecord, step_id) is None:
                raise NotFound(f"the store has no step {step_id}")

    def steps(self, run_id: str) -> list[StepRow]:
        """Return all attempts of a run in the order they began."""
        return self._steps(StepRecord.run_id == run_id)

    def open_steps(self, run_id: str, vm_id: str) -> list[StepRow]:
        """Return the attempts of a VM that have not ended (`vm_id` empty: of the run itself), oldest first."""
        return self._steps(StepRecord.run_id == run_id, StepRecord.vm_id == vm_id, StepRecord.state == "running")

    def newest_steps(self, run_id: str, *, begun: Collection[str], ended: Collection[str]) -> list[StepRow]:
        """Return the newest attempt of each VM at one of these steps, the oldest first: one row a VM, however often it
        was tried. Those at a step of `ended` count once they have ended, however.
        """
        counts = or_(StepRecord.step.in_(begun), and_(StepRecord.step.in_(ended), StepRecord.state != "running"))
        newest = select(func.max(StepRecord.id)).where(StepRecord.run_id == run_id, counts).group_by(StepRecord.vm_id)
        return self._steps(StepRecord.id.in_(newest))

    def _steps(self, *which: ColumnElement[bool]) -> list[StepRow]:
        with self._reading() as session:
            return [
                StepRow(
                    id=record.id,
                    run_id=record.run_id,
                    vm_id=record.vm_id,
                    step=record.step,
                    state=record.state,
                    started_at=record.started_at,
                    finished_at=record.finished_at,
                    error=record.error,
                )
                for record in session.scalars(select(StepRecord).where(*which).order_by(StepRecord.id))
            ]

    def add_evidence(
        self, run_id: str, vm_id: str, kind: EvidenceKind, document: dict[str, Any], subject: str = ""
    ) -> int:
        """Keep a piece of evidence for ever; `subject` may name a disk, a step, a file."""
        record = EvidenceRecord(
            run_id=run_id,
            plan_name=self.run(run_id).plan_name,
            vm_id=vm_id,
            kind=EvidenceKind(kind).value,
            subject=subject,
            document=document,
            recorded_at=datetime.now(UTC),
        )
        with self._writing() as session:
            session.add(record)
            session.flush()
            return record.id

    def evidence(self, run_id: str, vm_id: str | None = None, kind: EvidenceKind | None = None) -> list[EvidenceRow]:
        """Return a run's evidence, oldest first, of one VM or one kind if asked."""
        query = select(EvidenceRecord).where(EvidenceRecord.run_id == run_id).order_by(EvidenceRecord.id)
        if vm_id is not None:
            query = query.where(EvidenceRecord.vm_id == vm_id)
        if kind is not None:
            query = query.where(EvidenceRecord.kind == kind.value)
        with self._reading() as session:
            return [_evidence(record) for record in session.scalars(query)]

    def evidence_of_all_runs(self, plan_name: str, vm_id: str, kind: EvidenceKind) -> list[EvidenceRow]:
        """Return the evidence of this kind about a VM over all runs of the plan, oldest first."""
        query = (
            select(EvidenceRecord)
            .where(
                EvidenceRecord.plan_name == plan_name, EvidenceRecord.vm_id == vm_id, EvidenceRecord.kind == kind.value
            )
            .order_by(EvidenceRecord.id)
        )
        with self._reading() as session:
            return [_evidence(record) for record in session.scalars(query)]

    def latest_evidence(self, plan_name: str, vm_id: str, kind: EvidenceKind) -> dict[str, Any] | None:
        """Return the newest document of this kind about a VM over all runs of the plan."""
        query = (
            select(EvidenceRecord.document)
            .where(
                EvidenceRecord.plan_name == plan_name, EvidenceRecord.vm_id == vm_id, EvidenceRecord.kind == kind.value
            )
            .order_by(EvidenceRecord.id.desc())
            .limit(1)
        )
        with self._reading() as session:
            return session.scalars(query).one_or_none()

    def record_source_change(
        self, run_id: str, vm_id: str, kind: str, detail: dict[str, Any], *, alone: bool = False
    ) -> int:
        """Write down a change of the source before the call that makes it; return its id for the undoing.

        Only the run that holds the VM may, until it has decided what becomes of it: a step that still runs then gets
        `StaleHolder` here, in the same transaction that would have let it touch the source. `alone` makes sure, in it,
        of what `require_source_alone` does.
        """
        plan_name, now = self.run(run_id).plan_name, datetime.now(UTC)
        mine = (
            VmRecord.plan_name == plan_name,
            VmRecord.vm_id == vm_id,
            VmRecord.holder == run_id,
            VmRecord.phase.not_in(DECIDED),
        )
        record = SourceChangeRecord(
            run_id=run_id, plan_name=plan_name, vm_id=vm_id, kind=kind, detail=detail, recorded_at=now
        )
        with self._writing() as session:
            if alone:
                if self.dialect == "postgresql":  # a writing transaction of SQLite is alone anyway
                    session.execute(text(f"LOCK TABLE {SourceChangeRecord.__tablename__} IN EXCLUSIVE MODE"))
                _require_alone(session, plan_name, vm_id, kind, detail)
            held = session.execute(update(VmRecord).where(*mine).values(updated_at=now))
            if getattr(held, "rowcount", 0) != 1:
                raise StaleHolder(
                    f"run {run_id} no longer holds VM {vm_id} of plan {plan_name}, or is settling it, so it may not"
                    " change its source",
                    cure="nothing was touched; start the wave again",
                )
            session.add(record)
            session.flush()
            return record.id

    def require_source_alone(self, plan_name: str, vm_id: str, kind: str, detail: Mapping[str, Any]) -> None:
        """Make sure that no run holds another VM, of this plan or of another, with an open change of the same kind on
        the same thing of the source. Raises `HeldByAnother` naming it.

        `identity` of `detail` says which thing it is, whatever connection leads there; a change that an earlier version
        recorded has none, and is known by `connection` and `source_id`.
        """
        with self._reading() as session:
            _require_alone(session, plan_name, vm_id, kind, detail)

    def undo_source_change(self, change_id: int) -> None:
        """Mark a change undone, after it was. Repeating it is harmless. Raises `NotFound`."""
        with self._writing() as session:
            session.execute(
                update(SourceChangeRecord)
                .where(SourceChangeRecord.id == change_id, SourceChangeRecord.undone_at.is_(None))
                .values(undone_at=datetime.now(UTC))
            )
            if session.get(SourceChangeRecord, change_id) is None:
                raise NotFound(f"the store has no source change {change_id}")

    def open_source_changes(self, plan_name: str, vm_id: str | None = None) -> list[SourceChange]:
        """Return the changes of a VM's source (None: of all VMs' of the plan) that nobody has undone, newest first: the
        order to undo them.
        """
        query = (
            select(SourceChangeRecord)
            .where(SourceChangeRecord.plan_name == plan_name, SourceChangeRecord.undone_at.is_(None))
            .order_by(SourceChangeRecord.id.desc())
        )
        if vm_id is not None:
            query = query.where(SourceChangeRecord.vm_id == vm_id)
        with self._reading() as session:
            return [_change(record) for record in session.scalars(query)]

    def source_changes(self, run_id: str) -> list[SourceChange]:
        """Return every change a run made on the source, undone or not, oldest first."""
        query = select(SourceChangeRecord).where(SourceChangeRecord.run_id == run_id).order_by(SourceChangeRecord.id)
        with self._reading() as session:
            return [_change(record) for record in session.scalars(query)]

    def put_progress(self, run_id: str, vm_id: str, step: str, progress: Progress) -> None:
        """Keep the newest progress of a disk in a step; the one before is forgotten."""
        with self._writing() as session:
            insert_or_replace(
                session,
                ProgressRecord,
                {"run_id": run_id, "vm_id": vm_id, "step": step, "disk": progress.disk},
                {"document": msgspec.to_builtins(progress), "updated_at": datetime.now(UTC)},
            )

    def progress(self, run_id: str) -> list[ProgressRow]:
        """Return the newest progress of every disk of a run."""
        query = (
            select(ProgressRecord)
            .where(ProgressRecord.run_id == run_id)
            .order_by(ProgressRecord.vm_id, ProgressRecord.step, ProgressRecord.disk)
        )
        with self._reading() as session:
            return [
                ProgressRow(
                    run_id=record.run_id,
                    vm_id=record.vm_id,
                    step=record.step,
                    progress=msgspec.convert(record.document, Progress),
                    updated_at=record.updated_at,
                )
                for record in session.scalars(query)
            ]


def _require_alone(session: Session, plan_name: str, vm_id: str, kind: str, detail: Mapping[str, Any]) -> None:
    query = (
        select(SourceChangeRecord)
        .join(
            VmRecord,
            (VmRecord.plan_name == SourceChangeRecord.plan_name) & (VmRecord.vm_id == SourceChangeRecord.vm_id),
        )
        .where(
            SourceChangeRecord.kind == kind,
            SourceChangeRecord.undone_at.is_(None),
            VmRecord.holder != "",
            or_(SourceChangeRecord.plan_name != plan_name, SourceChangeRecord.vm_id != vm_id),
        )
    )
    for other in session.scalars(query):
        if _is_same_thing(other.detail, detail):
            raise HeldByAnother(
                f"the source of VM {vm_id} of plan {plan_name} is migrated by plan {other.plan_name} (its VM"
                f" {other.vm_id}), whose run has not let go of it",
                cure="take it out of one of the plans, or wait for that run, or clear its `settle` task if the run has"
                " ended without it",
            )


def _is_same_thing(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    if one.get("identity") and other.get("identity"):
        return bool(one["identity"] == other["identity"])
    return all(one.get(key) == other.get(key) for key in ("connection", "source_id"))


def _evidence(record: EvidenceRecord) -> EvidenceRow:
    return EvidenceRow(
        id=record.id,
        run_id=record.run_id,
        vm_id=record.vm_id,
        kind=EvidenceKind(record.kind),
        document=record.document,
        recorded_at=record.recorded_at,
        subject=record.subject,
    )


def _change(record: SourceChangeRecord) -> SourceChange:
    return SourceChange(
        id=record.id,
        run_id=record.run_id,
        vm_id=record.vm_id,
        kind=record.kind,
        detail=record.detail,
        recorded_at=record.recorded_at,
        undone_at=record.undone_at,
    )
