"""A store of another version of mtv: who changes its tables, and what everybody else is told."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError

from mtv.model.errors import PermanentError
from mtv.store import Run, Store, StoreInUse, StoreNewer, StoreOlder
from mtv.store.database import open_engine
from mtv.store.migrate import HEAD, migration_config
from tests.store.schemas import NEWER, OLDER, schema_in, turn_into


def test_an_empty_database_holds_no_store_and_looking_makes_none(dsn: str) -> None:
    with Store.open(dsn) as store:
        assert not store.is_made()
        assert not store.is_made()
        assert store.upgrade() == ""
        assert store.is_made()
        assert store.upgrade() == HEAD


@pytest.mark.parametrize("asked", [Store.is_made, Store.upgrade], ids=["look", "upgrade"])
def test_a_store_that_is_newer_than_the_program_is_said_and_left_alone(
    store: Store, dsn: str, asked: Callable[[Store], object]
) -> None:
    turn_into(dsn, NEWER)
    with pytest.raises(StoreNewer, match=f"newer than this mtv: it has schema {NEWER}, .* up to {HEAD}") as refused:
        asked(store)
    assert isinstance(refused.value, PermanentError)
    assert "use the version of mtv that Airflow runs" in refused.value.cure
    assert schema_in(dsn) == NEWER


def test_looking_into_an_older_store_says_how_to_upgrade_it_and_does_not(store: Store, dsn: str) -> None:
    turn_into(dsn, OLDER)
    with pytest.raises(StoreOlder, match=f"has schema {OLDER}, and mtv .* needs {HEAD}") as refused:
        store.is_made()
    assert "mtv store upgrade" in refused.value.cure
    assert schema_in(dsn) == OLDER


def test_an_older_store_is_not_changed_under_an_active_run_and_is_when_the_run_has_ended(
    store: Store, run: Run, dsn: str
) -> None:
    turn_into(dsn, OLDER)
    with pytest.raises(StoreInUse, match=rf"{run.id} \(plan dc1, wave pilot\)") as refused:
        store.upgrade()
    assert "--despite-runs" in refused.value.cure
    assert schema_in(dsn) == OLDER
    store.finish_run(run.id, "failed")
    assert store.upgrade() == OLDER
    assert schema_in(dsn) == HEAD


def test_a_run_that_will_never_end_can_be_overridden(store: Store, run: Run, dsn: str) -> None:
    turn_into(dsn, OLDER)
    assert store.upgrade(despite_runs=True) == OLDER
    assert store.run(run.id) == run


def test_active_runs_do_not_matter_to_a_store_that_is_up_to_date(store: Store, run: Run) -> None:
    assert store.upgrade() == HEAD
    assert store.is_made()


@pytest.mark.parametrize(("schema", "kind"), [(OLDER, StoreOlder), (NEWER, StoreNewer)], ids=["older", "newer"])
def test_a_query_that_fails_because_of_the_stores_version_says_so(
    store: Store, dsn: str, schema: str, kind: type[PermanentError]
) -> None:
    turn_into(dsn, OLDER)  # a table is missing
    if schema == NEWER:
        turn_into(dsn, NEWER)
    with pytest.raises(kind), store.explaining():
        store.approvals("dc1", "pilot")


def test_a_query_that_fails_in_an_up_to_date_store_keeps_its_own_error(store: Store) -> None:
    with pytest.raises(DBAPIError, match="no_such_table"), store.explaining(), store._reading() as session:
        session.connection().exec_driver_sql("select 1 from no_such_table")


def test_an_up_to_date_store_is_asked_for_its_schema_once_and_a_query_that_succeeds_costs_nothing_more(
    store: Store, dsn: str
) -> None:
    asked: list[str] = []
    event.listen(store._engine, "before_cursor_execute", lambda _c, _u, statement, *_: asked.append(statement))
    store.upgrade()
    assert sum("version_num" in statement for statement in asked) == 1
    assert not any("IMMEDIATE" in statement or "advisory" in statement for statement in asked)
    asked.clear()
    store.vms("dc1")
    alone = list(asked)
    asked.clear()
    with store.explaining():
        store.vms("dc1")
    assert asked == alone


def test_names_of_migrations_sort_by_age(store: Store, dsn: str) -> None:
    engine = open_engine(dsn)
    with engine.connect() as connection:
        scripts = ScriptDirectory.from_config(migration_config(connection)).walk_revisions()
        names = [script.revision for script in scripts]  # the newest first
    engine.dispose()
    assert names == sorted(names, reverse=True)
