"""Where the lab's Airflow and store keep their rows: SQLite files, or a throw-away PostgreSQL server."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.airflow.environment import airflow_environment
from lab.airflow.postgres import Postgres
from lab.cache import cached
from lab.state import REPO
from mtv.model.errors import PermanentError

_WHERE = "postgres.folder"
_SQLITE = "airflow.db"


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


def empty_database() -> Path:
    """An SQLite file as Airflow's own migration leaves it, made once per set of requirements: that takes 10 CPU-s."""

    def build(folder: Path) -> None:
        with tempfile.TemporaryDirectory(prefix="mtv-migrate-") as home:
            dsn, connections = f"sqlite:///{folder / _SQLITE}", Path(home) / "none.json"
            migrate_database(airflow_environment(Path(home), port=0, dsn=dsn, connections=connections))

    sources = [REPO / "requirements.txt", Path(__file__)]
    return cached("airflow-database", sources=sources, build=build) / _SQLITE


def migrate_database(environment: Mapping[str, str]) -> None:
    """Run Airflow's migration. Raises `PermanentError` with its last words."""
    done = subprocess.run(
        [sys.executable, "-m", "airflow", "db", "migrate"],
        # A migration needs no plugin, and importing ours takes a fifth of its time.
        env={**environment, "AIRFLOW__CORE__LAZY_LOAD_PLUGINS": "True", "AIRFLOW__CORE__PLUGINS_FOLDER": os.devnull},
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )
    if done.returncode != 0:
        last = "\n".join((done.stdout + done.stderr).splitlines()[-15:])
        raise PermanentError(f"airflow db migrate failed:\n{last}", code="LabAirflowDatabase")


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
