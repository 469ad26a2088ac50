"""A store on each database that is supported, empty for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mtv.model.plan import Plan, PlannedVm, Target, Wave
from mtv.store import Run, Store
from tests.postgres import PostgresServer, postgres_server


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        yield server


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def dsn(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database."""
    if request.param == "postgres":
        server: PostgresServer = request.getfixturevalue("postgres")
        return server.new_database()
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
