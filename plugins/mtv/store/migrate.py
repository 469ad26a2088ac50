"""Migrations from inside the package, so that they travel in the wheel; one transaction, one process at a time."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, text

_LOCK_KEY = 0x6D7476  # "mtv"; PostgreSQL's advisory locks are numbers shared by the whole database


def migration_config(connection: Connection) -> Config:
    """Return Alembic's configuration bound to an open connection; no ini file is needed."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def upgrade_engine(engine: Engine) -> None:
    """Run all missing migrations. On SQLite the write lock, on PostgreSQL an advisory lock keeps others waiting."""
    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
        command.upgrade(migration_config(connection), "head")
