"""Where the lab's Airflow and store keep their rows: SQLite files, or a throw-away PostgreSQL server."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.airflow.postgres import Postgres
from mtv.model.errors import PermanentError

_WHERE = "postgres.folder"


@dataclass(frozen=True)
class Databases:
    """Addresses of both databases, and the store's as the fields of an Airflow connection."""

    airflow: str
    store: str
    store_connection: dict[str, Any]


def make_databases(folder: Path, *, store_folder: Path) -> Databases:
    """Make empty databases of the kind that `MTV_LAB_DATABASE` names: sqlite (the default) or postgresql."""
    kind = os.environ.get("MTV_LAB_DATABASE", "sqlite")
    if kind == "sqlite":
        for stale in folder.glob("airflow.db*"):
            stale.unlink()
        path = store_folder / "store.sqlite"
        connection = {"conn_type": "sqlite", "host": str(path)}
        return Databases(f"sqlite:///{folder / 'airflow.db'}", f"sqlite:///{path}", connection)
    if kind != "postgresql":
        raise PermanentError(f"MTV_LAB_DATABASE is {kind!r}", cure="set it to sqlite or postgresql")
    server = new_server(folder)
    server.start()
    login = {
        "conn_type": "postgres",
        "host": "127.0.0.1",
        "port": server.port,
        "login": "airflow",
        "password": secrets.token_urlsafe(24),  # the server trusts without it; that it shows nowhere is what is tested
        "schema": "mtv",
    }
    return Databases(server.dsn("airflow"), server.dsn("mtv"), login)


def new_server(folder: Path) -> Postgres:
    """Return a server for the part of that folder, not started yet; `remove_databases` ends it and removes its data."""
    # Not below the lab's folder, which the server's own user may not enter.
    place = Path(tempfile.mkdtemp(prefix="mtv-pg-"))
    (folder / _WHERE).write_text(str(place))
    return Postgres(place)


def remove_databases(folder: Path) -> None:
    """Stop the PostgreSQL server, if there is one, and remove its data. SQLite files stay for whoever looks."""
    where = folder / _WHERE
    if where.exists():
        place = Path(where.read_text())
        Postgres(place).stop()
        shutil.rmtree(place, ignore_errors=True)
        where.unlink()
