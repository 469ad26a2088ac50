"""Migrations from inside the package, so that they travel in the wheel; one transaction, one process at a time."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, Engine, inspect, text

if TYPE_CHECKING:
    from alembic.config import Config

HEAD = "0004"
"""The newest migration. A database that has it is left alone, without loading Alembic or taking a lock."""
VERSION_TABLE = "mtv_schema"
"""The store's own name, so that it may share a database with somebody else's Alembic."""
_LOCK_KEY = 0x6D7476  # "mtv"; PostgreSQL's advisory locks are numbers shared by the whole database
_one_at_a_time = threading.Lock()  # Alembic keeps what it works on in module globals


def migration_config(connection: Connection) -> Config:
    """Return Alembic's configuration bound to an open connection; no ini file is needed."""
    from alembic.config import Config

    config = Config()
    # ConfigParser takes a percent sign for its own.
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def upgrade_engine(reader: Engine, writer: Engine) -> None:
    """Run all missing migrations. On SQLite the write lock, on PostgreSQL an advisory lock keeps others waiting."""
    with reader.connect() as connection:
        if _revision(connection) == HEAD:
            return
    from alembic import command

    with _one_at_a_time, writer.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
        command.upgrade(migration_config(connection), "head")


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    revision: str | None = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()  # noqa: S608  our own constant
    return revision
