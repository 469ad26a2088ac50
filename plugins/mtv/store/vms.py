"""The VM rows: the only lock of a store. Every change is one `UPDATE … WHERE`, judged by the number of rows it met."""

from __future__ import annotations

from collections.abc import Collection, Container
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, exists, or_, select, update

from mtv.model.evidence import DECIDED, VmPhase
from mtv.store.database import Database
from mtv.store.errors import AlreadyMigrated, HeldByAnother, StaleHolder
from mtv.store.rows import VmRow
from mtv.store.tables import NfcStreamsRecord, VmRecord
from mtv.store.upsert import insert_once


class Vms(Database):
    """The part of the store about where each VM stands."""

    def vm(self, plan_name: str, vm_id: str) -> VmRow:
        """Return the VM's row; a VM that no run has touched yet is pending, with epoch 0."""
        with self._reading() as session:
            record = session.get(VmRecord, (plan_name, vm_id))
            return VmRow(plan_name=plan_name, vm_id=vm_id) if record is None else _row(record)

    def vms(self, plan_name: str, vm_ids: Collection[str] | None = None) -> list[VmRow]:
        """Return the rows of all VMs of the plan that a run has touched, or of these of them, by id."""
        query = select(VmRecord).where(VmRecord.plan_name == plan_name).order_by(VmRecord.vm_id)
        if vm_ids is not None:
            query = query.where(VmRecord.vm_id.in_(vm_ids))
        with self._reading() as session:
            return [_row(record) for record in session.scalars(query)]

    def claim_vm(self, plan_name: str, vm_id: str, run_id: str) -> VmRow:
        """Take the VM for a run and fence everybody before it (epoch + 1). A run may claim again what it holds.

        Raises `HeldByAnother` naming the holder, `AlreadyMigrated` for a VM that a run has let go of as migrated.
        """
        with self._writing() as session:
            insert_once(session, VmRecord, _untouched(plan_name, vm_id))
            # A run that takes a VM again which it had let go must not be told that it still holds its streams.
            session.execute(delete(NfcStreamsRecord).where(_held_by_nobody(plan_name, vm_id)))
        row = self._change(
            plan_name,
            vm_id,
            or_((VmRecord.holder == "") & (VmRecord.phase != VmPhase.MIGRATED.value), VmRecord.holder == run_id),
            holder=run_id,
            last_run=run_id,
            epoch=VmRecord.epoch + 1,
        )
        if row is None:
            found = self.vm(plan_name, vm_id)
            _refuse_migrated(found)
            raise HeldByAnother(
                f"VM {vm_id} of plan {plan_name} is held by run {found.holder or 'that has just let go'}",
                cure="wait for that run, or clear its `settle` task if the run has ended without it",
            )
        return row

    def advance(
        self, plan_name: str, vm_id: str, run_id: str, phase: VmPhase, *, expect: Container[VmPhase] | None = None
    ) -> VmRow:
        """Move the VM to `phase` if `run_id` holds it, its phase is one of `expect` (None: any) and nothing is decided.

        Raises `StaleHolder` saying who holds it, or in which phase it is.
        """
        condition: ColumnElement[bool] = (VmRecord.holder == run_id) & VmRecord.phase.not_in(DECIDED)
        if expect is not None:
            condition &= VmRecord.phase.in_([known.value for known in VmPhase if known in expect])
        row = self._change(plan_name, vm_id, condition, phase=phase.value)
        if row is None:
            raise self._stale(plan_name, vm_id, run_id, f"go on to {phase.value}")
        return row

    def bump_epoch(self, plan_name: str, vm_id: str, run_id: str, *, settling: bool = False) -> int:
        """Fence every mover started so far; return the epoch of the next one.

        Raises `StaleHolder`, also once it is decided what becomes of the VM: then only `settling` ends its movers.
        """
        condition: ColumnElement[bool] = VmRecord.holder == run_id
        if not settling:
            condition &= VmRecord.phase.not_in(DECIDED)
        row = self._change(plan_name, vm_id, condition, epoch=VmRecord.epoch + 1)
        if row is None:
            raise self._stale(plan_name, vm_id, run_id, "start a mover")
        return row.epoch

    def set_target_name(self, plan_name: str, vm_id: str, run_id: str, target_name: str) -> VmRow:
        """Remember under which name the VM is made on the target. Raises `StaleHolder`."""
        row = self._change(plan_name, vm_id, VmRecord.holder == run_id, target_name=target_name)
        if row is None:
            raise self._stale(plan_name, vm_id, run_id, f"be named {target_name}")
        return row

    def release_vm(self, plan_name: str, vm_id: str, run_id: str, phase: VmPhase) -> VmRow:
        """Let go of the VM in `phase`. May be repeated until another run claims it. Raises `StaleHolder`.

        Raises `AlreadyMigrated` for one that the run has let go of as migrated, unless that is said once more.
        """
        again = (VmRecord.holder == "") & (VmRecord.last_run == run_id)
        if phase is not VmPhase.MIGRATED:
            again &= VmRecord.phase != VmPhase.MIGRATED.value
        mine = or_(VmRecord.holder == run_id, again)
        row = self._change(plan_name, vm_id, mine, holder="", phase=phase.value)
        if row is None:
            found = self.vm(plan_name, vm_id)
            if found.last_run == run_id:
                _refuse_migrated(found)
            raise self._stale(plan_name, vm_id, run_id, f"be released as {phase.value}")
        return row

    def _change(self, plan_name: str, vm_id: str, condition: ColumnElement[bool], **values: Any) -> VmRow | None:
        """Update the one row if `condition` holds; return it as written, None when the condition did not hold."""
        statement = (
            update(VmRecord)
            .where(VmRecord.plan_name == plan_name, VmRecord.vm_id == vm_id, condition)
            .values(**values, updated_at=datetime.now(UTC))
            .returning(VmRecord)
        )
        with self._writing() as session:
            record = session.scalars(statement, execution_options={"synchronize_session": False}).one_or_none()
            return None if record is None else _row(record)

    def _stale(self, plan_name: str, vm_id: str, run_id: str, wish: str) -> StaleHolder:
        row = self.vm(plan_name, vm_id)
        if row.holder != run_id:
            seen = f"it is held by run {row.holder}" if row.holder else "nobody holds it"
        else:
            seen = f"its phase is {row.phase.value}"
        return StaleHolder(
            f"VM {vm_id} of plan {plan_name} cannot {wish} for run {run_id}: {seen}",
            cure="clear the task `prepare` of this VM if this run is to go on",
        )


def _refuse_migrated(row: VmRow) -> None:
    if row.phase is VmPhase.MIGRATED and not row.holder:
        raise AlreadyMigrated(
            f"VM {row.vm_id} of plan {row.plan_name} was migrated by run {row.last_run}",
            cure="nothing is left to do; take it out of the plan",
            code="already-migrated",
        )


def _held_by_nobody(plan_name: str, vm_id: str) -> ColumnElement[bool]:
    """Picks the streams counted for this VM, if no run holds it."""
    released = and_(VmRecord.plan_name == plan_name, VmRecord.vm_id == vm_id, VmRecord.holder == "")
    return and_(NfcStreamsRecord.plan_name == plan_name, NfcStreamsRecord.vm_id == vm_id, exists().where(released))


def _untouched(plan_name: str, vm_id: str) -> dict[str, Any]:
    return {
        "plan_name": plan_name,
        "vm_id": vm_id,
        "phase": VmPhase.PENDING.value,
        "epoch": 0,
        "holder": "",
        "last_run": "",
        "target_name": "",
        "updated_at": datetime.now(UTC),
    }


def _row(record: VmRecord) -> VmRow:
    return VmRow(
        plan_name=record.plan_name,
        vm_id=record.vm_id,
        phase=VmPhase(record.phase),
        epoch=record.epoch,
        holder=record.holder,
        last_run=record.last_run,
        target_name=record.target_name,
        updated_at=record.updated_at,
    )
