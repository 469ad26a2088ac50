"""Run by Alembic. The connection, its transaction and its lock come from `mtv.store.migrate`."""

from __future__ import annotations

from alembic import context

from mtv.store.migrate import VERSION_TABLE
from mtv.store.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    version_table=VERSION_TABLE,
    # SQLite can roll DDL back; Alembic assumes that it cannot.
    transactional_ddl=True,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
