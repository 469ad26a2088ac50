"""Phases that say what `settle` has decided. Tables stay as they are; an older program does not know the phases."""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Change nothing: no VM can be in one of these phases yet."""


def downgrade() -> None:
    """Let what was decided be decided anew."""
    op.execute("UPDATE vms SET phase = 'verified' WHERE phase = 'accepting'")
    op.execute("UPDATE vms SET phase = 'preparing' WHERE phase IN ('rolling back', 'holding')")
