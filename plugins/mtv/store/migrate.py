"""Migrations from inside the package, so that they travel in the wheel; one transaction, one process at a time."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, Engine, inspect, text

from mtv import __version__
from mtv.store.errors import StoreInUse, StoreNewer

if TYPE_CHECKING:
    from alembic.config import Config

HEAD = "0005"
"""The newest migration; their names sort by age. A database that has it is left alone, without Alembic or a lock."""
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


def schema_of(reader: Engine) -> str:
    """Return the newest migration that the database has had, "" if none. Raises `StoreNewer`."""
    with reader.connect() as connection:
        return _schema(connection)


def upgrade_engine(reader: Engine, writer: Engine, *, despite_runs: bool) -> str:
    """Run all missing migrations. On SQLite the write lock, on PostgreSQL an advisory lock keeps others waiting.

    Return the newest migration that the database had before. Raises `StoreNewer`, `StoreInUse`.
    """
    if schema_of(reader) == HEAD:
        return HEAD
    from alembic import command

    with _one_at_a_time, writer.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
        before = _schema(connection)  # once more: another process may have been faster
        if before and before != HEAD and not despite_runs:
            _refuse_while_active(connection, before)
        command.upgrade(migration_config(connection), "head")
    return before


def _schema(connection: Connection) -> str:
    if not inspect(connection).has_table(VERSION_TABLE):
        return ""
    found: str = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar() or ""  # noqa: S608  our own constant
    if found > HEAD:
        raise StoreNewer(
            f"the store is newer than this mtv: it has schema {found}, and mtv {__version__} knows them up to {HEAD}",
            cure="use the version of mtv that Airflow runs; nothing was changed",
        )
    return found


def _refuse_while_active(connection: Connection, schema: str) -> None:
    # Columns that were there from the beginning: the tables are older than their classes.
    query = text("SELECT id, plan_name, wave FROM runs WHERE state = 'running' ORDER BY id")
    active = [f"{run} (plan {plan}, wave {wave})" for run, plan, wave in connection.execute(query)]
    if active:
        raise StoreInUse(
            f"the store has schema {schema}, mtv {__version__} needs {HEAD}, and it is not changed under active runs: "
            f"{', '.join(active)}",
            cure="let them end with the version that began them; if one never will, mtv store upgrade --despite-runs",
        )
