"""The DAG of a source's inventory, and how it tells a wave's DAG whether its plan is ready."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import msgspec
import pytest

from tests.providers.conftest import envelope, system, write_tar

REPO = Path(__file__).resolve().parents[2]


@pytest.fixture
def asked(monkeypatch):
    def ask(dag_id: str) -> None:
        monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_DAG_ID", dag_id)

    return ask


def load(settings):
    from mtv.orchestration.inventory_dag import load_inventory_dags

    return {dag.dag_id: dag for dag in load_inventory_dags(settings)}


def test_every_source_that_a_plan_names_has_one_dag(settings, write_plan, good_plan):
    write_plan("dc1.yaml", good_plan)
    write_plan("dc2.yaml", good_plan.replace("{name: db-1}", "{name: db-1, source: other}"))
    write_plan("bad.yaml", "waves: [")
    dags = load(settings)
    assert sorted(dags) == ["mtv.inventory.other", "mtv.inventory.src"]
    dag = dags["mtv.inventory.src"]
    assert [task.task_id for task in dag.topological_sort()] == ["snapshot", "validate"]
    assert dag.tags == {"inventory", "source:src"}
    assert (dag.is_paused_upon_creation, dag.catchup, dag.max_active_runs) == (True, False, 1)
    assert dag.schedule == "@hourly"


@pytest.mark.parametrize(("said", "schedule"), [("off", None), ("", None), ("*/15 * * * *", "*/15 * * * *")])
def test_the_installation_decides_the_schedule(settings, write_plan, good_plan, said, schedule):
    write_plan("dc1.yaml", good_plan)
    dags = load(msgspec.structs.replace(settings, inventory_schedule=said))
    assert dags["mtv.inventory.src"].schedule == schedule


def test_a_starting_task_reads_no_plan(settings, write_plan, asked):
    write_plan("bad.yaml", "waves: [")
    asked("mtv.inventory.src")
    assert list(load(settings)) == ["mtv.inventory.src"]
    assert not settings.compiled_folder.exists()


def test_names_that_no_dag_id_can_hold_keep_apart_and_are_found_again(settings, write_plan, good_plan, asked):
    from mtv.orchestration.inventory_dag import inventory_dag_id

    write_plan("dc1.yaml", good_plan.replace("{connection: src}", "{connection: 'dc/1'}"))
    write_plan("dc2.yaml", good_plan.replace("{connection: src}", "{connection: 'dc:1'}"))
    dags = load(settings)
    assert set(dags) == {inventory_dag_id("dc/1"), inventory_dag_id("dc:1")}
    assert len(dags) == 2
    asked(inventory_dag_id("dc/1"))
    assert dags[inventory_dag_id("dc/1")].get_task("snapshot").source == "dc/1"
    assert inventory_dag_id("dc/1") in load(settings)


def test_the_dag_file_is_thin():
    spec = importlib.util.spec_from_file_location("inventory_under_test", REPO / "dags" / "inventory.py")
    assert spec is not None
    text = (REPO / "dags" / "inventory.py").read_text().lower()
    assert "airflow" in text
    assert "dag" in text
    assert len(text.splitlines()) < 10


def test_an_inventory_gives_the_dags_of_its_plans_the_tag_ready_or_not_ready(settings, write_plan, tmp_path):
    from mtv.model.connection import Connection
    from mtv.model.errors import PermanentError
    from mtv.orchestration.loader import load_dags
    from mtv.orchestration.runner import StepRunner

    (tmp_path / "ova").mkdir()
    (tmp_path / "rules" / "ova").mkdir(parents=True)
    write_tar(tmp_path / "ova" / "a.ova", {"a.ovf": envelope(system("app-1")), "disk1.vmdk": b"x" * 512})

    class SomeConnections:
        def get(self, conn_id: str) -> Connection:
            if conn_id != "boxes":
                raise PermanentError(f"no connection {conn_id}")
            return Connection(conn_id=conn_id, conn_type="ova", extra={"path": str(tmp_path / "ova")})

        def store_dsn(self) -> str:
            return ""

    write_plan("boxes.csv", "vm,source,target,namespace,network,storage_class\napp-1,boxes,dst,ns,pod,fs\n")
    (wave,) = load_dags(settings)
    assert wave.tags == {"plan:boxes", "source:boxes", "mode:cold"}, "nobody has judged it yet"
    runner = StepRunner(settings, SomeConnections())
    said: list[str] = []
    for step in ("take", "judge"):
        runner.inventory_step(step, "boxes", said.append)
    assert "boxes: 1 VMs read, for the first time" in said
    (wave,) = load_dags(settings)
    assert "not ready" in wave.tags, said
    with runner.store() as store:
        standing = store.standing("boxes")
    assert standing is not None
    assert () in [one.vms for one in standing.conditions if one.blocks], "it has no target"

    write_plan("boxes.csv", "vm,source,target,namespace,network,storage_class\napp-1,boxes,dst,ns2,pod,fs\n")
    (wave,) = load_dags(settings)
    assert "not ready" not in wave.tags, "what was judged is not this plan any more"
    outline = json.loads(next(settings.outlines_folder.glob("mtv.*.json")).read_text())
    assert "standing" not in outline
