"""The store's tables. Nobody outside `mtv.store` sees them: callers get the frozen values of `rows`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, DateTime, Dialect, ForeignKey, Index, Text, TypeDecorator, UniqueConstraint, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class UtcDateTime(TypeDecorator[datetime]):
    """An instant. SQLite forgets time zones, so every value is turned to UTC going in and labelled UTC coming out."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        """Refuse naive values: a local time in the store could never be told apart again."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("the store takes instants with a time zone only")
        return value.astimezone(UTC)

    def process_result_value(self, value: Any, _dialect: Dialect) -> datetime | None:
        """Label what SQLite returns, convert what PostgreSQL returns."""
        if value is None:
            return None
        instant: datetime = value
        return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)


class Base(DeclarativeBase):
    """All tables; column types by annotation."""

    type_annotation_map = {  # noqa: RUF012  SQLAlchemy reads this very attribute
        datetime: UtcDateTime(),
        str: Text(),
        dict[str, Any]: JSON(),
        list[str]: JSON(none_as_null=True),
        list[dict[str, Any]]: JSON(),
    }


class PlanRecord(Base):
    """A plan as it was when a run began, keyed by the hash of its canonical JSON."""

    __tablename__ = "plans"

    hash: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(index=True)
    document: Mapped[dict[str, Any]]
    recorded_at: Mapped[datetime]


class RunRecord(Base):
    """One run of one wave. The partial unique index is what makes a second active run of a plan impossible."""

    __tablename__ = "runs"
    __table_args__ = (
        UniqueConstraint("dag_id", "dag_run_id", name="uq_runs_dag_run"),
        Index(
            "uq_runs_active_plan",
            "plan_name",
            unique=True,
            sqlite_where=text("state = 'running'"),
            postgresql_where=text("state = 'running'"),
        ),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    plan_hash: Mapped[str] = mapped_column(ForeignKey("plans.hash"))
    plan_name: Mapped[str]
    wave: Mapped[str]
    dag_id: Mapped[str]
    dag_run_id: Mapped[str]
    state: Mapped[str]
    started_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
    frozen_vms: Mapped[list[str] | None]


class VmRecord(Base):
    """Where a VM of a plan stands. Phase, epoch and holder change only by compare-and-set: this row is the lock."""

    __tablename__ = "vms"

    plan_name: Mapped[str] = mapped_column(primary_key=True)
    vm_id: Mapped[str] = mapped_column(primary_key=True)
    phase: Mapped[str]
    epoch: Mapped[int]
    holder: Mapped[str]
    last_run: Mapped[str]
    target_name: Mapped[str]
    updated_at: Mapped[datetime]


class NfcStreamsRecord(Base):
    """How many NFC streams of a host a VM may hold. Counts only while `run_id` holds the VM's row."""

    __tablename__ = "nfc_streams"

    plan_name: Mapped[str] = mapped_column(primary_key=True)
    vm_id: Mapped[str] = mapped_column(primary_key=True)
    run_id: Mapped[str]
    host: Mapped[str] = mapped_column(index=True)
    streams: Mapped[int]


class StepRecord(Base):
    """One attempt at one step; `vm_id` is empty for steps of the whole run."""

    __tablename__ = "steps"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id"), index=True)
    vm_id: Mapped[str]
    step: Mapped[str]
    state: Mapped[str]
    error: Mapped[str]
    started_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]


class EvidenceRecord(Base):
    """Something that was seen. Only ever added."""

    __tablename__ = "evidence"
    __table_args__ = (Index("ix_evidence_vm_kind", "plan_name", "vm_id", "kind", "id"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id"), index=True)
    plan_name: Mapped[str]
    vm_id: Mapped[str]
    kind: Mapped[str]
    subject: Mapped[str]
    document: Mapped[dict[str, Any]]
    recorded_at: Mapped[datetime]


class SourceChangeRecord(Base):
    """A change made on the source, written before the call, marked undone after the opposite call."""

    __tablename__ = "source_changes"
    __table_args__ = (Index("ix_source_changes_vm", "plan_name", "vm_id"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id"), index=True)
    plan_name: Mapped[str]
    vm_id: Mapped[str]
    kind: Mapped[str]
    detail: Mapped[dict[str, Any]]
    recorded_at: Mapped[datetime]
    undone_at: Mapped[datetime | None]


class ProgressRecord(Base):
    """The newest progress of one disk in one step."""

    __tablename__ = "progress"

    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id"), primary_key=True)
    vm_id: Mapped[str] = mapped_column(primary_key=True)
    step: Mapped[str] = mapped_column(primary_key=True)
    disk: Mapped[str] = mapped_column(primary_key=True)
    document: Mapped[dict[str, Any]]
    updated_at: Mapped[datetime]


class InventoryMomentRecord(Base):
    """One look at everything that a source holds. Ids grow in the order of the looks."""

    __tablename__ = "inventory_moments"
    __table_args__ = (Index("ix_inventory_moments_source", "source", "id"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    source: Mapped[str]
    taken_at: Mapped[datetime]
    objects: Mapped[int]


class InventoryVersionRecord(Base):
    """How one object of a source looked from one moment on, until another moment saw it otherwise or not at all."""

    __tablename__ = "inventory_versions"
    __table_args__ = (
        UniqueConstraint("source", "kind", "key", "since_moment", name="uq_inventory_versions_since"),
        Index("ix_inventory_versions_until", "source", "until_moment"),
    )

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    source: Mapped[str]
    kind: Mapped[str]
    key: Mapped[str]
    since_moment: Mapped[int]
    until_moment: Mapped[int | None]
    name: Mapped[str]
    digest: Mapped[str]
    document: Mapped[str]


class JudgementRecord(Base):
    """What rules said of one VM of an inventory, and of which version of it."""

    __tablename__ = "judgements"

    source: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    digest: Mapped[str]
    rules_version: Mapped[str]
    concerns: Mapped[list[dict[str, Any]]]
    judged_at: Mapped[datetime]


class ApprovalRecord(Base):
    """One VM of a wave as somebody approved it."""

    __tablename__ = "approvals"

    plan_name: Mapped[str] = mapped_column(primary_key=True)
    wave: Mapped[str] = mapped_column(primary_key=True)
    vm_id: Mapped[str] = mapped_column(primary_key=True)
    plan_hash: Mapped[str]
    approved_by: Mapped[str]
    fingerprint: Mapped[str]
    document: Mapped[dict[str, Any]]
    approved_at: Mapped[datetime]


class StandingRecord(Base):
    """Whether a plan was ready when it was last judged, and the conditions that said so."""

    __tablename__ = "standings"

    plan_name: Mapped[str] = mapped_column(primary_key=True)
    plan_hash: Mapped[str]
    is_ready: Mapped[bool]
    conditions: Mapped[list[dict[str, Any]]]
    judged_at: Mapped[datetime]
