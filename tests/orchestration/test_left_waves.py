"""Waves whose plan is taken away while they run. Real store, real plan files, no source and no cluster."""

from __future__ import annotations

import socket
from datetime import timedelta

import pytest

from mtv.model.errors import PermanentError
from mtv.store import Store, default_dsn
from tests.store.schemas import OLDER, schema_in, turn_into


class StoreAt:
    """Connections that know where the store is and nothing else."""

    def __init__(self, dsn: str = "") -> None:
        self.dsn = dsn

    def store_dsn(self) -> str:
        return self.dsn

    def get(self, conn_id):
        raise PermanentError(f"no connection {conn_id}")


def runner_of(settings, dsn: str = ""):
    from mtv.orchestration.runner import StepRunner

    return StepRunner(settings, connections=StoreAt(dsn))


def drawn(settings, dsn: str = "") -> dict:
    """What the DAG processor draws, by DAG id."""
    from mtv.orchestration.left_waves import still_running
    from mtv.orchestration.outline import OutlineFolder
    from mtv.orchestration.plans_folder import read_outlines

    found = list(read_outlines(settings))
    found += still_running(found, OutlineFolder(settings.outlines_folder), runner_of(settings, dsn).store)
    return {outline.dag_id: outline for outline in found}


def ref(dag_id: str, run_id: str = "r1"):
    from mtv.orchestration.runner import TaskRef

    return TaskRef(dag_id=dag_id, run_id=run_id)


def freeze(settings, outline, run_id: str = "r1") -> list[str]:
    return runner_of(settings).freeze(outline, ref(outline.dag_id, run_id), lambda line: None)


def finish(settings, dag_id: str) -> None:
    with Store.open(default_dsn(settings.state_folder)) as store:
        store.finish_run(store.run_of(dag_id, "r1").id, "success")


@pytest.fixture
def nothing_stays(monkeypatch):
    monkeypatch.setattr("mtv.orchestration.left_waves.STAYS", timedelta())


@pytest.fixture
def write_long_wave(write_plan, good_plan, monkeypatch):
    """Write a plan with one wave of so many VMs, cut into parts of ten: SQLite carries no more at once."""
    monkeypatch.setattr("mtv.plan.parts.MAX_VMS_PER_RUN", 10)

    def write(count: int) -> None:
        rows = "\n".join(f"    - {{name: vm-{n:03d}}}" for n in range(count))
        write_plan("dc1.yaml", good_plan.partition("waves:")[0] + f"waves:\n  big:\n    vms:\n{rows}\n")

    return write


def remove(plans) -> None:
    (plans / "dc1.yaml").unlink()


def rename(plans) -> None:
    (plans / "dc1.yaml").rename(plans / "dc2.yaml")


def rename_the_wave(plans) -> None:
    text = (plans / "dc1.yaml").read_text()
    (plans / "dc1.yaml").write_text(text.replace("  pilot:", "  other:"))


@pytest.mark.parametrize("edit", [remove, rename, rename_the_wave])
@pytest.mark.usefixtures("nothing_stays")
def test_a_wave_that_leaves_its_plan_while_it_runs_keeps_its_dag_until_it_has_ended(
    settings, write_plan, good_plan, edit
):
    write_plan("dc1.yaml", good_plan)
    frozen = freeze(settings, drawn(settings)["mtv.dc1.pilot"])

    edit(settings.plans_folder)

    left = drawn(settings)["mtv.dc1.pilot"]
    assert "dc1.yaml no longer has it" in left.problems[0]
    assert "invalid" in left.tags
    assert freeze(settings, left) == frozen
    with pytest.raises(PermanentError, match="no longer has"):
        freeze(settings, left, "r2")
    assert ("mtv.dc1.rest" in drawn(settings)) == (edit is rename_the_wave), "no run of it is open"

    finish(settings, "mtv.dc1.pilot")
    assert "mtv.dc1.pilot" not in drawn(settings)


def test_the_dag_stays_for_a_day_for_tasks_that_are_cleared(settings, write_plan, good_plan):
    write_plan("dc1.yaml", good_plan)
    freeze(settings, drawn(settings)["mtv.dc1.pilot"])
    remove(settings.plans_folder)
    finish(settings, "mtv.dc1.pilot")
    assert "mtv.dc1.pilot" in drawn(settings)


@pytest.mark.parametrize("left", [0, 9, 19])
def test_all_parts_of_a_wave_run_as_it_began_whatever_becomes_of_its_file(settings, write_long_wave, left):
    write_long_wave(23)
    part = "mtv.dc1.big-01"
    taken = freeze(settings, drawn(settings)[part])
    if left:
        write_long_wave(left)
    else:
        remove(settings.plans_folder)
    while following := drawn(settings)[part].next_part:
        finish(settings, part)
        assert following in runner_of(settings).dags_of(ref(part)), "its task would not hand over"
        part = following
        taken += freeze(settings, drawn(settings)[part])
    assert taken == [f"vm-{n:03d}" for n in range(23)]


def test_a_wave_that_was_cut_shorter_ends_with_its_last_part(settings, write_long_wave):
    write_long_wave(23)
    drawn(settings)
    write_long_wave(19)
    freeze(settings, drawn(settings)["mtv.dc1.big-01"])
    finish(settings, "mtv.dc1.big-01")
    freeze(settings, drawn(settings)["mtv.dc1.big-02"])
    assert "mtv.dc1.big-03" not in runner_of(settings).dags_of(ref("mtv.dc1.big-02"))
    assert "mtv.dc1.big-03" not in drawn(settings)


def test_a_wave_that_never_ran_leaves_with_its_file(settings, write_plan, good_plan):
    write_plan("dc1.yaml", good_plan)
    drawn(settings)
    remove(settings.plans_folder)
    assert drawn(settings) == {}
    assert list(settings.outlines_folder.glob("*.json")) == []


def test_while_the_store_does_not_answer_all_waves_that_have_left_stay(settings, write_plan, good_plan):
    write_plan("dc1.yaml", good_plan)
    drawn(settings)
    remove(settings.plans_folder)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: nobody answers there
        away = f"postgresql://nobody@127.0.0.1:{taken.getsockname()[1]}/store"
        assert set(drawn(settings, away)) == {"mtv.dc1.pilot", "mtv.dc1.rest"}
    assert drawn(settings) == {}


def test_drawing_changes_no_store_of_another_version_and_all_waves_that_have_left_stay(settings, write_plan, good_plan):
    write_plan("dc1.yaml", good_plan)
    freeze(settings, drawn(settings)["mtv.dc1.pilot"])
    finish(settings, "mtv.dc1.pilot")
    turn_into(default_dsn(settings.state_folder), OLDER)
    remove(settings.plans_folder)
    assert set(drawn(settings)) == {"mtv.dc1.pilot", "mtv.dc1.rest"}
    assert schema_in(default_dsn(settings.state_folder)) == OLDER


def test_the_store_is_not_asked_while_no_wave_has_left(settings, write_plan, good_plan):
    write_plan("dc1.yaml", good_plan)
    assert set(drawn(settings, "no store at all")) == {"mtv.dc1.pilot", "mtv.dc1.rest"}


def test_airflow_is_given_the_dag_of_a_wave_that_has_left_its_plan(settings, write_plan, good_plan, monkeypatch):
    from mtv.orchestration.loader import load_dags

    address = default_dsn(settings.state_folder).removeprefix("sqlite:///")
    monkeypatch.setenv("AIRFLOW_CONN_MTV_STORE", f'{{"conn_type": "sqlite", "host": "{address}"}}')
    write_plan("dc1.yaml", good_plan)
    freeze(settings, drawn(settings)["mtv.dc1.pilot"])
    remove(settings.plans_folder)
    (dag,) = load_dags(settings)
    assert dag.dag_id == "mtv.dc1.pilot"
    assert {"freeze", "cold.settle", "verdict"} <= set(dag.task_dict)
