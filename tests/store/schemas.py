"""Stores of other programs than this one."""

from __future__ import annotations

from alembic import command
from sqlalchemy import column, select, table, update

from mtv.store.database import open_engine
from mtv.store.migrate import HEAD, VERSION_TABLE, migration_config

OLDER, NEWER = "0002", "0099"
_SCHEMA = column("version_num")
_MARK = table(VERSION_TABLE, _SCHEMA)


def turn_into(dsn: str, schema: str) -> None:
    """Make an up-to-date store one of an older program (its tables change), or of a newer one (only its mark does)."""
    engine = open_engine(dsn)
    with engine.execution_options(mtv_writes=True).begin() as connection:
        if schema < HEAD:
            command.downgrade(migration_config(connection), schema)
        else:
            connection.execute(update(_MARK).values({_SCHEMA: schema}))
    engine.dispose()


def schema_in(dsn: str) -> str:
    """The newest migration that a store has had."""
    engine = open_engine(dsn)
    with engine.connect() as connection:
        found: str = connection.execute(select(_SCHEMA).select_from(_MARK)).scalar_one()
    engine.dispose()
    return found
