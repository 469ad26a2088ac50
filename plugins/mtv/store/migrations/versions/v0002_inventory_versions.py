"""Inventories as versions of their objects; what validation said of VMs and plans.

The snapshots kept before were of single waves' VMs. They are dropped: the runs' own evidence holds the same.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_INSTANT = sa.DateTime(timezone=True)


def _texts(*names: str) -> list[sa.Column[str]]:
    return [sa.Column(name, sa.Text(), nullable=False) for name in names]


def _id() -> sa.Column[int]:
    return sa.Column("id", sa.Integer(), primary_key=True, autoincrement=True)


def upgrade() -> None:
    """Replace whole snapshots by moments and versions; add judgements and standings."""
    op.drop_table("inventory_snapshots")
    op.create_table(
        "inventory_moments",
        _id(),
        *_texts("source"),
        sa.Column("taken_at", _INSTANT, nullable=False),
        sa.Column("objects", sa.Integer(), nullable=False),
    )
    op.create_index("ix_inventory_moments_source", "inventory_moments", ["source", "id"])
    op.create_table(
        "inventory_versions",
        _id(),
        *_texts("source", "kind", "key", "name", "digest", "document"),
        sa.Column("since_moment", sa.Integer(), nullable=False),
        sa.Column("until_moment", sa.Integer(), nullable=True),
        sa.UniqueConstraint("source", "kind", "key", "since_moment", name="uq_inventory_versions_since"),
    )
    op.create_index("ix_inventory_versions_until", "inventory_versions", ["source", "until_moment"])
    op.create_table(
        "judgements",
        sa.Column("source", sa.Text(), primary_key=True, nullable=False),
        sa.Column("key", sa.Text(), primary_key=True, nullable=False),
        *_texts("digest", "rules_version"),
        sa.Column("concerns", sa.JSON(), nullable=False),
        sa.Column("judged_at", _INSTANT, nullable=False),
    )
    op.create_table(
        "standings",
        sa.Column("plan_name", sa.Text(), primary_key=True, nullable=False),
        *_texts("plan_hash"),
        sa.Column("is_ready", sa.Boolean(), nullable=False),
        sa.Column("conditions", sa.JSON(), nullable=False),
        sa.Column("judged_at", _INSTANT, nullable=False),
    )


def downgrade() -> None:
    """Go back to whole snapshots; inventories are taken anew."""
    for table in ("standings", "judgements", "inventory_versions", "inventory_moments"):
        op.drop_table(table)
    op.create_table(
        "inventory_snapshots",
        _id(),
        *_texts("source"),
        sa.Column("documents", sa.JSON(), nullable=False),
        sa.Column("taken_at", _INSTANT, nullable=False),
    )
    op.create_index("ix_inventory_snapshots_source", "inventory_snapshots", ["source"])
