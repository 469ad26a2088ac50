"""A store on each database that is supported, empty for each test."""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.airflow.postgres import Postgres
from mtv.model.plan import Plan, PlannedVm, Target, Wave
from mtv.store import Run, Store


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    folder = Path(tempfile.mkdtemp(prefix="mtv-pg-"))  # pytest's own folders are closed to the user `postgres`
    server = Postgres(folder)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def dsn(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database."""
    if request.param == "postgres":
        server: Postgres = request.getfixturevalue("postgres")
        return server.dsn(f"test_{uuid.uuid4().hex}")
    return f"sqlite:///{tmp_path / 'store.sqlite'}"


@pytest.fixture
def store(dsn: str) -> Iterator[Store]:
    with Store.open(dsn) as store:
        store.upgrade()
        yield store


@pytest.fixture
def plan() -> Plan:
    vms = tuple(PlannedVm(id=name.lower(), name=name) for name in ("Web-1", "Db-1"))
    return Plan(name="dc1", target=Target(connection="c", namespace="n"), waves=(Wave(name="pilot", vms=vms),))


@pytest.fixture
def run(store: Store, plan: Plan) -> Run:
    """An active run of the plan."""
    return store.start_run(
        plan_hash=store.put_plan(plan), plan_name="dc1", wave="pilot", dag_id="mtv.dc1.pilot", dag_run_id="first"
    )
