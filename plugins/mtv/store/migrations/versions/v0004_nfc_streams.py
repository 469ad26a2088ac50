"""How many NFC streams of which ESXi host each VM under way may hold."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the streams."""
    op.create_table(
        "nfc_streams",
        *(sa.Column(name, sa.Text(), primary_key=True, nullable=False) for name in ("plan_name", "vm_id")),
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("run_id", "host")),
        sa.Column("streams", sa.Integer(), nullable=False),
    )
    op.create_index("ix_nfc_streams_host", "nfc_streams", ["host"])


def downgrade() -> None:
    """Count no longer."""
    op.drop_table("nfc_streams")
