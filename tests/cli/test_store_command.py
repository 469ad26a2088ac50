"""What commands do where there is no store yet, or one of another version of mtv, and what `mtv store upgrade` does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sqlalchemy import make_url

from mtv.cli import main
from mtv.store import Store
from mtv.store.migrate import HEAD
from tests.reporting.sample import fill
from tests.store.schemas import NEWER, OLDER, schema_in, turn_into

Output = pytest.CaptureFixture[str]
PLAN = str(Path(__file__).parents[2] / "include" / "plans" / "01-first-wave.yaml")
LOOKS = [["runs"], ["report", "last"], ["plan", "show", PLAN], ["inventory", "show", "boxes", "x"],
         ["inventory", "diff", "boxes"]]  # fmt: skip
WRITES = [["inventory", "boxes"], ["plan", "approve", PLAN, "--by", "anna"]]


@pytest.fixture
def place(dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of the store that commands work with; nothing is in it yet."""
    url = make_url(dsn)
    store = {"conn_type": "sqlite", "host": url.database}
    if url.get_backend_name() == "postgresql":
        store = {"conn_type": "postgres", "host": url.host, "port": url.port, "login": url.username,
                 "password": url.password, "schema": url.database}  # fmt: skip
    (tmp_path / "ova").mkdir()
    boxes = {"conn_type": "ova", "extra": {"path": str(tmp_path / "ova")}}
    connections = tmp_path / "connections.json"
    connections.write_text(json.dumps({"mtv_store": store, "boxes": boxes}))
    connections.chmod(0o600)
    monkeypatch.setenv("MTV_CONNECTIONS_FILE", str(connections))
    monkeypatch.setenv("MTV_STATE_FOLDER", str(tmp_path / "state"))
    return dsn


@pytest.fixture
def run_id(place: str) -> str:
    """A run of an up-to-date store."""
    with Store.open(place) as store:
        store.upgrade()
        return fill(store)


def test_the_first_look_says_that_there_is_no_run_and_where_it_looked_and_makes_nothing(
    place: str, tmp_path: Path, capsys: Output
) -> None:
    assert main(["runs"]) == 0
    said = capsys.readouterr().out
    if place.startswith("sqlite"):
        assert said == f"no run yet: there is no store in {tmp_path}\n"
        assert not (tmp_path / "store.sqlite").exists()
    else:
        assert said == "no run yet: the database of the connection mtv_store is empty\n"
    with Store.open(place) as store:
        assert not store.is_made()


@pytest.mark.parametrize("words", LOOKS[1:], ids=" ".join)
def test_no_look_makes_a_store(words: list[str], place: str, capsys: Output) -> None:
    main(words)
    assert "Traceback" not in capsys.readouterr().err
    with Store.open(place) as store:
        assert not store.is_made()


def test_an_inventory_makes_the_store_that_it_needs(place: str, capsys: Output) -> None:
    assert main(["inventory", "boxes"]) == 0
    with Store.open(place) as store:
        assert store.is_made()


@pytest.mark.parametrize("words", LOOKS + WRITES, ids=lambda words: " ".join(words[:2]))
@pytest.mark.parametrize("schema", [OLDER, NEWER])
def test_no_command_changes_a_store_of_another_version_and_each_says_what_to_do(
    words: list[str], schema: str, run_id: str, place: str, capsys: Output
) -> None:
    turn_into(place, schema)
    assert main(words) == 1
    error = capsys.readouterr().err
    assert error.startswith("mtv: the store ")
    assert len(error.splitlines()) == 1
    assert ("mtv store upgrade" if schema == OLDER else "use the version of mtv that Airflow runs") in error
    assert schema_in(place) == schema


def test_the_store_is_made_and_upgraded_on_request(place: str, capsys: Output) -> None:
    assert main(["store", "upgrade"]) == 0
    assert capsys.readouterr().out.endswith(f": schema {HEAD} (before: none)\n")
    turn_into(place, OLDER)
    assert main(["store", "upgrade"]) == 0
    assert capsys.readouterr().out.endswith(f": schema {HEAD} (before: {OLDER})\n")
    assert main(["store", "upgrade"]) == 0
    assert capsys.readouterr().out.endswith(f": schema {HEAD}\n")


def test_an_upgrade_waits_for_active_runs_unless_it_is_told_that_they_never_end(
    run_id: str, place: str, capsys: Output
) -> None:
    with Store.open(place) as store:
        run = store.run(run_id)
        store.start_run(plan_hash=run.plan_hash, plan_name=run.plan_name, wave=run.wave, dag_id=run.dag_id,
                        dag_run_id=run.dag_run_id)  # fmt: skip
    turn_into(place, OLDER)
    assert main(["store", "upgrade"]) == 1
    assert run_id in capsys.readouterr().err
    assert schema_in(place) == OLDER
    assert main(["store", "upgrade", "--despite-runs"]) == 0
    assert schema_in(place) == HEAD
