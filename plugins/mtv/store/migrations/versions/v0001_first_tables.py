"""First tables: plans, runs, VMs, steps, evidence, source changes, progress, inventory."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_INSTANT = sa.DateTime(timezone=True)


def _text(name: str, *, key: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), primary_key=key, nullable=False)


def _id() -> sa.Column[int]:
    return sa.Column("id", sa.Integer(), primary_key=True, autoincrement=True)


def _document(name: str = "document") -> sa.Column[object]:
    return sa.Column(name, sa.JSON(), nullable=False)


def _instant(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, _INSTANT, nullable=nullable)


def _run_id(*, key: bool = False) -> sa.Column[str]:
    return sa.Column("run_id", sa.Text(), sa.ForeignKey("runs.id"), primary_key=key, nullable=False)


def upgrade() -> None:
    """Create the tables and the indexes that locks rest on."""
    op.create_table("plans", _text("hash", key=True), _text("name"), _document(), _instant("recorded_at"))
    op.create_index("ix_plans_name", "plans", ["name"])
    op.create_table(
        "runs",
        _text("id", key=True),
        sa.Column("plan_hash", sa.Text(), sa.ForeignKey("plans.hash"), nullable=False),
        *(_text(name) for name in ("plan_name", "wave", "dag_id", "dag_run_id", "state")),
        _instant("started_at"),
        _instant("finished_at", nullable=True),
        sa.Column("frozen_vms", sa.JSON(), nullable=True),
        sa.UniqueConstraint("dag_id", "dag_run_id", name="uq_runs_dag_run"),
    )
    running = sa.text("state = 'running'")
    op.create_index(
        "uq_runs_active_plan", "runs", ["plan_name"], unique=True, sqlite_where=running, postgresql_where=running
    )
    op.create_table(
        "vms",
        _text("plan_name", key=True),
        _text("vm_id", key=True),
        _text("phase"),
        sa.Column("epoch", sa.Integer(), nullable=False),
        *(_text(name) for name in ("holder", "last_run", "target_name")),
        _instant("updated_at"),
    )
    op.create_table(
        "steps",
        _id(),
        _run_id(),
        *(_text(name) for name in ("vm_id", "step", "state", "error")),
        _instant("started_at"),
        _instant("finished_at", nullable=True),
    )
    op.create_table(
        "evidence",
        _id(),
        _run_id(),
        *(_text(name) for name in ("plan_name", "vm_id", "kind", "subject")),
        _document(),
        _instant("recorded_at"),
    )
    op.create_index("ix_evidence_vm_kind", "evidence", ["plan_name", "vm_id", "kind", "id"])
    op.create_table(
        "source_changes",
        _id(),
        _run_id(),
        *(_text(name) for name in ("plan_name", "vm_id", "kind")),
        _document("detail"),
        _instant("recorded_at"),
        _instant("undone_at", nullable=True),
    )
    op.create_index("ix_source_changes_vm", "source_changes", ["plan_name", "vm_id"])
    for table in ("steps", "evidence", "source_changes"):
        op.create_index(f"ix_{table}_run_id", table, ["run_id"])
    op.create_table(
        "progress",
        _run_id(key=True),
        *(_text(name, key=True) for name in ("vm_id", "step", "disk")),
        _document(),
        _instant("updated_at"),
    )
    op.create_table("inventory_snapshots", _id(), _text("source"), _document("documents"), _instant("taken_at"))
    op.create_index("ix_inventory_snapshots_source", "inventory_snapshots", ["source"])


def downgrade() -> None:
    """Drop everything."""
    for table in ("inventory_snapshots", "progress", "source_changes", "evidence", "steps", "vms", "runs", "plans"):
        op.drop_table(table)
