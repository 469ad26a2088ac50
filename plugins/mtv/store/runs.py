"""Plans and runs: at most one active run per plan, started once however often it is asked for."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Literal

from sqlalchemy import or_, select, update
from sqlalchemy.exc import IntegrityError

from mtv.model.errors import TemporaryError
from mtv.model.plan import Plan
from mtv.store.database import Database
from mtv.store.errors import NotFound, RunRefused
from mtv.store.rows import Run
from mtv.store.tables import PlanRecord, RunRecord
from mtv.store.upsert import insert_once

_START_ATTEMPTS = 5


class Runs(Database):
    """The part of the store about plans and runs."""

    def put_plan(self, plan: Plan) -> str:
        """Keep the plan for ever and return its hash; the same plan has the same hash."""
        document = plan.model_dump(mode="json", exclude_none=True)
        plan_hash = hash_of(plan)
        with self._writing() as session:
            values = {"hash": plan_hash, "name": plan.name, "document": document, "recorded_at": datetime.now(UTC)}
            insert_once(session, PlanRecord, values)
        return plan_hash

    def plan(self, plan_hash: str) -> Plan:
        """Return a kept plan. Raises `NotFound`."""
        with self._reading() as session:
            record = session.get(PlanRecord, plan_hash)
            if record is None:
                raise NotFound(f"the store has no plan with the hash {plan_hash}")
            return Plan.model_validate(record.document)

    def start_run(self, *, plan_hash: str, plan_name: str, wave: str, dag_id: str, dag_run_id: str) -> Run:
        """Start the run of a DAG run, or return it when it was started before (its first plan hash stays pinned).

        A finished run that is started again (its tasks were cleared) becomes active again.
        Raises `RunRefused` naming the holder while another run of the plan is active.
        """
        self.plan(plan_hash)
        for _ in range(_START_ATTEMPTS):
            now = datetime.now(UTC)
            record = RunRecord(
                id=f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(3)}",
                plan_hash=plan_hash,
                plan_name=plan_name,
                wave=wave,
                dag_id=dag_id,
                dag_run_id=dag_run_id,
                state="running",
                started_at=now,
                finished_at=None,
                frozen_vms=None,
            )
            try:
                with self._writing() as session:
                    session.add(record)
                    session.flush()
                    return _run(record)
            except IntegrityError:
                run = self._existing_run(plan_name, dag_id, dag_run_id)
            if run is not None:
                return run
        raise TemporaryError(f"runs of plan {plan_name} start and finish too fast to get in between")

    def _existing_run(self, plan_name: str, dag_id: str, dag_run_id: str) -> Run | None:
        """Return this DAG run's run, active again; None when whoever was in the way has finished meanwhile."""
        run = self.run_of(dag_id, dag_run_id)
        if run is None:
            self._refuse_while_active(plan_name)
            return None
        if run.state == "running":
            return run
        try:
            with self._writing() as session:
                session.execute(
                    update(RunRecord)
                    .where(RunRecord.id == run.id, RunRecord.state == run.state)
                    .values(state="running", finished_at=None)
                )
        except IntegrityError:
            self._refuse_while_active(plan_name)
            return None
        return self.run(run.id)

    def _refuse_while_active(self, plan_name: str) -> None:
        active = self.active_run(plan_name)
        if active is not None:
            raise RunRefused(
                f"plan {plan_name} is already running: run {active.id} (wave {active.wave}, {active.dag_id} "
                f"{active.dag_run_id}) started {active.started_at:%Y-%m-%d %H:%M} UTC",
                cure="wait until it has finished, or mark it failed",
            )

    def run(self, run_id: str) -> Run:
        """Return a run. Raises `NotFound`."""
        with self._reading() as session:
            record = session.get(RunRecord, run_id)
            if record is None:
                raise NotFound(f"the store has no run {run_id}", cure="`mtv runs` lists them")
            return _run(record)

    def run_of(self, dag_id: str, dag_run_id: str) -> Run | None:
        """Return the run of an Airflow DAG run, if there is one."""
        with self._reading() as session:
            record = session.scalars(
                select(RunRecord).where(RunRecord.dag_id == dag_id, RunRecord.dag_run_id == dag_run_id)
            ).one_or_none()
            return None if record is None else _run(record)

    def active_run(self, plan_name: str) -> Run | None:
        """Return the one active run of a plan, if there is one."""
        with self._reading() as session:
            record = session.scalars(
                select(RunRecord).where(RunRecord.plan_name == plan_name, RunRecord.state == "running")
            ).one_or_none()
            return None if record is None else _run(record)

    def runs(self, plan_name: str | None = None, *, limit: int = 100) -> list[Run]:
        """Return the newest runs first."""
        query = select(RunRecord).order_by(RunRecord.started_at.desc(), RunRecord.id.desc()).limit(limit)
        if plan_name is not None:
            query = query.where(RunRecord.plan_name == plan_name)
        with self._reading() as session:
            return [_run(record) for record in session.scalars(query)]

    def runs_since(self, moment: datetime) -> list[Run]:
        """Return the runs that are active or have finished after `moment`, oldest first."""
        query = (
            select(RunRecord)
            .where(or_(RunRecord.state == "running", RunRecord.finished_at > moment))
            .order_by(RunRecord.started_at, RunRecord.id)
        )
        with self._reading() as session:
            return [_run(record) for record in session.scalars(query)]

    def finish_run(self, run_id: str, state: Literal["success", "failed"]) -> None:
        """Close a run. Repeating it is harmless; the first end time of this activation stays."""
        with self._writing() as session:
            session.execute(
                update(RunRecord)
                .where(RunRecord.id == run_id, RunRecord.state == "running")
                .values(state=state, finished_at=datetime.now(UTC))
            )
        self.run(run_id)

    def freeze_vms(self, run_id: str, vm_ids: Iterable[str]) -> list[str]:
        """Pin the ordered VMs of a run. Only the first call pins; every call returns what is pinned."""
        with self._writing() as session:
            session.execute(
                update(RunRecord)
                .where(RunRecord.id == run_id, RunRecord.frozen_vms.is_(None))
                .values(frozen_vms=list(vm_ids))
            )
        pinned = self.run(run_id).frozen_vms
        return list(pinned or ())

    def active_vm_count(self) -> int:
        """How many VMs the active runs have pinned: what the limits of SQLite count."""
        with self._reading() as session:
            pinned = session.scalars(select(RunRecord.frozen_vms).where(RunRecord.state == "running")).all()
            return sum(len(vms or ()) for vms in pinned)


def hash_of(plan: Plan) -> str:
    """Return the hash by which the store keeps a plan: SHA-256 of its JSON without what is not said."""
    return hashlib.sha256(plan.model_dump_json(exclude_none=True).encode()).hexdigest()


def _run(record: RunRecord) -> Run:
    return Run(
        id=record.id,
        plan_hash=record.plan_hash,
        plan_name=record.plan_name,
        wave=record.wave,
        dag_id=record.dag_id,
        dag_run_id=record.dag_run_id,
        state=record.state,
        started_at=record.started_at,
        finished_at=record.finished_at,
        frozen_vms=None if record.frozen_vms is None else tuple(record.frozen_vms),
    )
