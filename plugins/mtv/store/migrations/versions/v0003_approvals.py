"""What somebody approved of a wave: each VM as it was seen then."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add approvals."""
    op.create_table(
        "approvals",
        *(sa.Column(name, sa.Text(), primary_key=True, nullable=False) for name in ("plan_name", "wave", "vm_id")),
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("plan_hash", "approved_by", "fingerprint")),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.Column("approved_at", sa.DateTime(timezone=True), nullable=False),
    )


def downgrade() -> None:
    """Forget approvals."""
    op.drop_table("approvals")
