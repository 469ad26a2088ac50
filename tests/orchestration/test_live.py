"""A real Airflow runs waves of small steps."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

import mtv
from mtv.model.evidence import VmPhase
from tests.orchestration.live_airflow_kit import Live, running_airflow

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def live(tmp_path_factory) -> Iterator[Live]:
    """An Airflow without a cluster behind it."""
    yield from running_airflow(tmp_path_factory.mktemp("live"), {}, {})


@pytest.fixture(scope="module")
def sad(live: Live) -> tuple[str, str]:
    """The first run of the plan `sad`, ended: a second one would take only the VM that failed."""
    dag_id, run_id = live.start("sad")
    assert live.api.wait_for_run(dag_id, run_id, timeout_s=600) == "failed"
    return dag_id, run_id


def test_a_wave_of_more_vms_than_may_be_in_flight_runs_to_its_end_in_turns(live: Live):
    dag_id, run_id = live.start("turns")
    assert live.api.wait_for_run(dag_id, run_id, timeout_s=600) == "success"
    with live.store() as store:
        run = store.run_of(dag_id, run_id)
        rows = store.steps(run.id)
        assert {row.vm_id: row.phase for row in store.vms("turns")} == dict.fromkeys(run.frozen_vms, VmPhase.MIGRATED)
    assert _most_at_once(rows) <= 2
    labels = {
        task["rendered_map_index"] for task in live.api.tasks(dag_id, run_id) if task["task_id"] == "cold.prepare"
    }
    assert labels == {f"VM {n}" for n in range(5)}


def _most_at_once(rows) -> int:
    begun = {row.vm_id: row.started_at for row in rows if row.step == "prepare"}
    ended = {row.vm_id: row.finished_at for row in rows if row.step == "settle"}
    return max(sum(begun[vm] <= at < ended[vm] for vm in begun) for at in begun.values())


def test_a_part_that_has_ended_starts_the_next_one_even_if_a_vm_failed(live: Live):
    first, second = "mtv.parts.w-01", "mtv.parts.w-02"
    for dag_id in (first, second):
        live.api.wait_for_dag(dag_id, timeout_s=120)
        live.api.unpause(dag_id)
    run_id = live.api.trigger(first)
    assert live.api.wait_for_run(first, run_id, timeout_s=600) == "failed"
    assert live.states(first, run_id)["next_part", -1] == "success"
    assert live.api.wait_for_run(second, run_id, timeout_s=600) == "success"
    with live.store() as store:
        assert [store.vm("parts", f"vm-{n}").phase for n in (0, 1)] == [VmPhase.FAILED, VmPhase.MIGRATED]


@pytest.mark.usefixtures("sad")
def test_one_copy_of_mtv_serves_worker_triggerer_and_api_server(live: Live):
    """The worker wrote what it saw; the others are asked what could mislead them."""
    assert (live.gate / "mtv-file-worker").read_text() == mtv.__file__
    for component in ("api-server", "triggerer", "scheduler", "dag-processor"):
        pid = int(live.server.pidfile(component).read_text().split()[0])
        environment = Path(f"/proc/{pid}/environ").read_bytes()
        assert b"PYTHONPATH" not in environment, "another copy could come first"


def test_a_vm_whose_prepare_fails_is_settled_and_turns_the_run_red_while_others_migrate(live: Live, sad):
    dag_id, run_id = sad
    states = live.states(dag_id, run_id)
    assert states["cold.prepare", 0] == "failed"
    assert states["cold.transfer", 0] == "upstream_failed"
    assert states["cold.settle", 0] == "success"
    assert states["cold.settle", 1] == "success"
    assert states["report", -1] == "success"
    assert states["verdict", -1] == "failed"
    assert live.api.task(dag_id, run_id, "cold.prepare", 0)["try_number"] == 1, "a permanent error is not tried again"
    with live.store() as store:
        assert store.vm("sad", "vm-0").phase is VmPhase.FAILED
        assert store.vm("sad", "vm-1").phase is VmPhase.MIGRATED


def test_only_freeze_leaves_an_xcom_and_it_holds_ids(live: Live, sad):
    dag_id, _ = sad
    with sqlite3.connect(live.folder / "airflow.db") as database:
        query = "select distinct task_id, key, value from xcom where dag_id = ?"
        rows = database.execute(query, (dag_id,)).fetchall()
    assert {(task, key) for task, key, _ in rows} == {("freeze", "return_value")}
    assert all(set(json.loads(json.loads(value) if value.startswith('"') else value)) for _, _, value in rows)


def test_clearing_freeze_gives_the_same_vms_again(live: Live, sad):
    dag_id, run_id = sad
    before = [entry for entry in live.api.tasks(dag_id, run_id) if entry["task_id"] == "cold.prepare"]
    live.api.clear(dag_id, run_id, ["freeze"])
    assert live.api.wait_for_run(dag_id, run_id, timeout_s=600) in ("success", "failed")
    after = [entry for entry in live.api.tasks(dag_id, run_id) if entry["task_id"] == "cold.prepare"]
    assert [entry["map_index"] for entry in after] == [entry["map_index"] for entry in before]
