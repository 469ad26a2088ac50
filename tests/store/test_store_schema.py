"""Migrations, DSNs and limits."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import tempfile
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text
from sqlalchemy.exc import DBAPIError

from lab.airflow.postgres import Postgres
from mtv.model.errors import PermanentError, TemporaryError
from mtv.store import Run, SqliteLimit, Store, default_dsn, refuse_small_database
from mtv.store.database import open_engine
from mtv.store.migrate import HEAD, VERSION_TABLE, migration_config
from mtv.store.tables import Base


def test_the_migrations_make_exactly_the_tables_of_the_code(store: Store, dsn: str) -> None:
    engine = open_engine(dsn)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        assert compare_metadata(context, Base.metadata) == []
        indexes = {index["name"] for index in inspect(connection).get_indexes("runs")}
        assert "uq_runs_active_plan" in indexes
    engine.dispose()


def test_the_newest_migration_is_the_one_the_code_takes_for_newest(store: Store, dsn: str) -> None:
    engine = open_engine(dsn)
    with engine.connect() as connection:
        assert ScriptDirectory.from_config(migration_config(connection)).get_heads() == [HEAD]
    engine.dispose()


def test_many_threads_may_upgrade_several_databases_at_once(tmp_path: Path) -> None:
    stores = [Store.open(f"sqlite:///{tmp_path / f'{number % 3}.sqlite'}") for number in range(6)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda store: store.upgrade(), stores))
    for store in stores:
        assert store.vms("p") == []
        store.close()


def test_upgrading_again_changes_nothing(store: Store, run: Run) -> None:
    store.upgrade()
    assert store.run(run.id) == run


def test_several_processes_may_upgrade_an_empty_database_at_once(dsn: str) -> None:
    with ProcessPoolExecutor(3, mp_context=multiprocessing.get_context("spawn")) as pool:
        assert list(pool.map(_upgrade, [dsn] * 6)) == ["pending"] * 6


def test_a_forked_child_uses_connections_of_its_own(store: Store, run: Run) -> None:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            store.add_evidence(run.id, "", "failure", {"from": "child"})  # type: ignore[arg-type]
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    assert store.evidence(run.id)[0].document == {"from": "child"}


def test_the_default_store_is_a_file_whose_folder_is_made(tmp_path: Path) -> None:
    with Store.open(default_dsn(tmp_path / "var" / "mtv")) as store:
        store.upgrade()
    assert (tmp_path / "var" / "mtv" / "store.sqlite").is_file()


@pytest.mark.parametrize("dsn", ["sqlite://", "sqlite:///:memory:", "mysql://u:geheim@h/d", "geheim"])
def test_a_dsn_that_cannot_serve_is_refused_without_repeating_its_password(dsn: str) -> None:
    with pytest.raises(PermanentError) as refused:
        Store.open(dsn)
    assert "geheim" not in str(refused.value)
    assert refused.value.cure


def test_sqlite_is_refused_above_its_limits_naming_postgresql(tmp_path: Path) -> None:
    with Store.open(f"sqlite:///{tmp_path / 's.sqlite'}") as store:
        store.upgrade()
        refuse_small_database(store, executor="LocalExecutor", parallelism=8, added_vms=50)
        for wish in ({"parallelism": 9}, {"added_vms": 51}, {"executor": "airflow.x.CeleryExecutor"}):
            with pytest.raises(SqliteLimit, match="PostgreSQL"):
                refuse_small_database(store, **wish)  # type: ignore[arg-type]


def test_vms_of_active_runs_count_against_the_limit(tmp_path: Path, plan: object) -> None:
    with Store.open(f"sqlite:///{tmp_path / 's.sqlite'}") as store:
        store.upgrade()
        key = store.put_plan(plan)  # type: ignore[arg-type]
        run = store.start_run(plan_hash=key, plan_name="dc1", wave="w", dag_id="d", dag_run_id="r")
        store.freeze_vms(run.id, [f"vm-{n}" for n in range(40)])
        with pytest.raises(SqliteLimit, match="50 VMs in active runs, not 51"):
            refuse_small_database(store, added_vms=11)
        store.finish_run(run.id, "success")
        refuse_small_database(store, added_vms=11)


@pytest.mark.postgres
def test_postgresql_has_none_of_these_limits(postgres: Postgres) -> None:
    with Store.open(postgres.dsn("limits")) as store:
        store.upgrade()
        refuse_small_database(store, executor="CeleryExecutor", parallelism=500, added_vms=5000)


def _upgrade(dsn: str) -> str:
    with Store.open(dsn) as store:
        store.upgrade()
        return store.vm("p", "v").phase.value


@pytest.mark.postgres
def test_a_server_that_is_away_is_said_in_words_and_the_same_store_answers_when_it_is_back() -> None:
    folder = Path(tempfile.mkdtemp(prefix="mtv-pg-"))  # pytest's own folders are closed to the user `postgres`
    server = Postgres(folder)
    try:
        server.start()
        with Store.open(server.dsn("away")) as store:
            store.upgrade()
            server.stop()
            with (
                pytest.raises(TemporaryError, match=r"store away on 127\.0\.0\.1 cannot be used") as away,
                store.answering(),
            ):
                store.vms("p")
            assert "psycopg2" not in str(away.value)
            server.start()
            with store.answering():
                assert store.vms("p") == []
    finally:
        server.stop()
        shutil.rmtree(folder)


def test_a_mistake_in_a_query_is_not_taken_for_a_store_that_is_away(store: Store) -> None:
    with pytest.raises(DBAPIError, match="no_such_table"), store.answering(), store._reading() as session:
        session.execute(text("select 1 from no_such_table"))
