"""The DAG of a wave, from plan files to what Airflow serializes; no database."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

REPO = Path(__file__).resolve().parents[2]
STEPS = ["prepare", "transfer", "convert", "create_vm", "verify", "settle"]


@pytest.fixture
def dags(settings, write_plan, good_plan):
    from mtv.orchestration.loader import load_dags

    write_plan("dc1.yaml", good_plan)
    return {dag.dag_id: dag for dag in load_dags(settings)}


@pytest.fixture
def asked(monkeypatch):
    def ask(dag_id: str) -> None:
        monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_DAG_ID", dag_id)

    return ask


def test_every_wave_is_a_dag_that_is_created_paused_and_never_starts_by_itself(dags):
    assert sorted(dags) == ["mtv.dc1.pilot", "mtv.dc1.rest"]
    for dag in dags.values():
        assert dag.is_paused_upon_creation is True
        assert dag.schedule is None
        assert dag.catchup is False
        assert dag.max_active_runs == 1


def test_of_a_long_wave_only_the_first_part_waits_to_be_unpaused(settings):
    from mtv.orchestration.operators import StepOperators
    from mtv.orchestration.outline import Outline
    from mtv.orchestration.wave_dag import build_dag

    operators = StepOperators(settings)
    parts = [Outline(dag_id=f"mtv.p.w-0{n}", plan="p", file="p.yaml", wave="w", part=n) for n in (1, 2, 3)]
    dags = [build_dag(outline, operators) for outline in parts]
    assert [dag.is_paused_upon_creation for dag in dags] == [True, False, False]
    assert {dag.schedule for dag in dags} == {None}


def test_the_steps_of_the_itinerary_are_the_tasks_of_one_mapped_group(dags):
    dag = dags["mtv.dc1.pilot"]
    assert [task.task_id for task in dag.topological_sort()] == [
        "freeze",
        "snapshot_inventory",
        "validate",
        *(f"cold.{step}" for step in STEPS),
        "report",
        "verdict",
    ]
    group = dag.task_group.children["cold"]
    assert type(group).__name__ == "MappedTaskGroup"
    assert [task.task_id for task in group.iter_mapped_dependencies()] == ["freeze"]


def test_each_step_hangs_on_the_one_before_and_only_on_it(dags):
    dag = dags["mtv.dc1.pilot"]
    before = "validate"
    for step in STEPS:
        assert dag.get_task(f"cold.{step}").upstream_task_ids - {"freeze"} == {before}
        before = f"cold.{step}"
    assert dag.get_task("report").upstream_task_ids == {"cold.settle"}
    assert dag.get_task("verdict").upstream_task_ids == {"report"}


def test_settle_report_and_verdict_survive_a_run_that_is_marked_failed(dags):
    dag = dags["mtv.dc1.pilot"]
    teardowns = {task.task_id for task in dag.tasks if task.is_teardown}
    assert teardowns == {"cold.settle", "report", "verdict"}
    assert dag.get_task("verdict").on_failure_fail_dagrun is True
    assert not any(task.is_setup for task in dag.tasks)


def test_vms_finish_rather_than_all_start(dags):
    assert {task.weight_rule for task in dags["mtv.dc1.pilot"].tasks} == {"upstream"}


def test_prepare_is_limited_to_the_vms_in_flight(dags):
    prepare = dags["mtv.dc1.pilot"].get_task("cold.prepare")
    assert (prepare.limit, prepare.max_active_tis_per_dagrun) == (2, 2)


def test_pod_steps_are_kubernetes_pod_operators_that_defer_and_render_nothing_but_the_vm(dags):
    from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator

    for step in ("transfer", "convert"):
        task = dags["mtv.dc1.pilot"].get_task(f"cold.{step}")
        assert isinstance(task, KubernetesPodOperator)
        assert task.deferrable is True
        assert task.do_xcom_push is False
        assert task.log_pod_spec_on_failure is False
        assert tuple(task.template_fields) == ("vm_id",)
        assert task.retries >= 1


def test_only_freeze_leaves_an_xcom(dags):
    assert [task.task_id for task in dags["mtv.dc1.pilot"].tasks if task.do_xcom_push] == ["freeze"]


@pytest.mark.parametrize(("context", "label"), [({}, "web-1"), ({"vm_name": "WEB 1"}, "WEB 1")])
def test_the_label_of_a_mapped_task_is_the_vm_and_never_undefined(dags, context, label):
    dag = dags["mtv.dc1.pilot"]
    task = dag.get_task("cold.verify")
    task.vm_id = "web-1"
    assert dag.get_template_env().from_string(task.map_index_template).render(task=task, **context) == label


def test_airflow_serializes_the_dag_and_no_vm_or_secret_is_in_it(dags):
    from airflow.serialization.serialized_objects import DagSerialization

    for dag in dags.values():
        document = str(DagSerialization.to_dict(dag))
        assert "web-1" not in document
        assert "max_vms_in_flight" not in document


def test_a_wave_with_two_itineraries_has_two_groups_and_picks_for_each(settings):
    from mtv.orchestration.operators import StepOperators
    from mtv.orchestration.outline import Outline
    from mtv.orchestration.wave_dag import build_dag

    outline = Outline(
        dag_id="mtv.p.w", plan="p", file="p.yaml", plan_hash="h", wave="w", itineraries=("cold", "cold-raw")
    )
    dag = build_dag(outline, StepOperators(settings))
    assert {"pick_cold", "pick_cold_raw", "cold.settle", "cold-raw.settle"} <= set(dag.task_dict)
    assert "cold-raw.convert" not in dag.task_dict
    assert dag.get_task("pick_cold").upstream_task_ids == {"freeze"}
    assert dag.get_task("cold.prepare").upstream_task_ids == {"validate", "pick_cold"}
    assert dag.get_task("report").upstream_task_ids == {"cold.settle", "cold-raw.settle"}
    assert not dag.validate()


def test_a_verdict_that_does_not_reach_the_store_is_tried_again_and_a_bad_one_is_not(dags, monkeypatch):
    from airflow.sdk.exceptions import AirflowFailException

    from mtv.model.errors import PermanentError, TemporaryError

    verdict = dags["mtv.dc1.pilot"].get_task("verdict")
    context = {"ti": TaskAndDag("verdict", "mtv.dc1.pilot"), "run_id": "r"}

    def ends(error: Exception) -> type[BaseException]:
        def run_step(*_: object) -> None:
            raise error

        monkeypatch.setattr(verdict.runner, "run_step", run_step)
        with pytest.raises(Exception, match="the store") as caught:
            verdict.execute(context)
        return caught.type

    assert verdict.retries == 2, "without it a run stays active for ever when the store is away just then"
    assert not issubclass(ends(TemporaryError("the store is away")), AirflowFailException)
    assert issubclass(ends(PermanentError("the store has 1 VM that failed")), AirflowFailException)


class TaskAndDag(NamedTuple):
    """What a task asks of its instance."""

    task_id: str
    dag_id: str


class TaskAndState(NamedTuple):
    """What Airflow's scheduler asks of a task instance for the state of its run."""

    task_id: str
    state: str


@pytest.fixture
def part_dag(settings):
    """The first of two parts."""
    from mtv.orchestration.operators import StepOperators
    from mtv.orchestration.outline import Outline
    from mtv.orchestration.wave_dag import build_dag

    outline = Outline(
        dag_id="mtv.p.w-01", plan="p", file="p.yaml", wave="w", part=1, next_part="mtv.p.w-02", itineraries=("cold",)
    )
    return build_dag(outline, StepOperators(settings))


def test_a_part_hands_over_when_all_is_settled_and_not_when_it_is_marked_failed(part_dag):
    task = part_dag.get_task("next_part")
    assert task.upstream_task_ids == {"report"}
    assert task.trigger_rule == "all_done"
    assert not task.is_teardown, "an unfinished task that is no teardown is skipped when the run is marked failed"
    assert (task.trigger_dag_id, task.trigger_run_id) == ("mtv.p.w-02", "{{ run_id }}")


@pytest.mark.parametrize(
    ("states", "is_red"),
    [
        pytest.param({}, False, id="all-migrated"),
        pytest.param({"cold.settle": "failed", "verdict": "failed"}, True, id="one-is-not-settled"),
        pytest.param(
            {"cold.transfer": "failed", "cold.verify": "skipped", "next_part": "skipped", "verdict": "failed"},
            True,
            id="marked-failed",
        ),
        pytest.param({"next_part": "failed"}, True, id="the-next-one-cannot-be-started"),
        pytest.param({"next_part": "skipped"}, False, id="the-next-one-was-started-before"),
    ],
)
def test_airflow_shows_a_part_red_for_a_vm_that_failed_and_for_a_wave_that_stands_still(part_dag, states, is_red):
    from airflow.models.dagrun import DagRun
    from airflow.utils.state import State

    tis = [TaskAndState(task.task_id, states.get(task.task_id, "success")) for task in part_dag.tasks]
    decisive = DagRun._tis_for_dagrun_state(None, dag=part_dag, tis=tis)
    assert any(ti.state in State.failed_states for ti in decisive) == is_red


@pytest.fixture
def ended_part(settings, good_plan, monkeypatch):
    """The runner of a wave of two parts whose first one has pinned its VMs, and the task that hands over."""
    from types import SimpleNamespace

    from mtv.orchestration.operators import NextPartOperator
    from mtv.orchestration.plans_folder import read_outlines
    from mtv.orchestration.runner import StepRunner, TaskRef

    monkeypatch.setattr("mtv.plan.parts.MAX_VMS_PER_RUN", 2)
    rows = ", ".join(f"{{name: vm-{n}}}" for n in range(3))
    text = good_plan.partition("waves:")[0] + f"waves:\n  big:\n    vms: [{rows}]\n"
    (settings.plans_folder / "p.yaml").write_text(text)
    runner = StepRunner(settings, SimpleNamespace(store_dsn=lambda: ""))
    first = next(outline for outline in read_outlines(settings) if outline.part == 1)
    runner.freeze(first, TaskRef(dag_id=first.dag_id, run_id="r"), lambda line: None)
    return runner, NextPartOperator(task_id="next_part", next_part=first.next_part, runner=runner)


def context_of(get_dag) -> dict:
    from types import SimpleNamespace

    return {"ti": SimpleNamespace(dag_id="mtv.p.big-01", get_dag=get_dag), "run_id": "r"}


def test_a_part_is_finished_in_the_store_before_the_next_one_is_started(ended_part):
    from types import SimpleNamespace

    from airflow.sdk.exceptions import DagRunTriggerException

    runner, task = ended_part
    with pytest.raises(DagRunTriggerException):
        task.execute(context_of(lambda dag_id: SimpleNamespace(is_paused=False)))
    with runner.store() as store:
        assert store.active_run("p") is None


def test_a_next_part_that_is_paused_or_unknown_to_airflow_is_said_so(ended_part):
    from types import SimpleNamespace

    from airflow.sdk.exceptions import AirflowException, AirflowRuntimeError, ErrorType
    from airflow.sdk.execution_time.comms import ErrorResponse

    def unknown(dag_id):
        raise AirflowRuntimeError(ErrorResponse(error=ErrorType.API_SERVER_ERROR, detail={"status_code": 404}))

    _, task = ended_part
    with pytest.raises(AirflowException, match=r"mtv\.p\.big-02, which comes next, is paused — unpause it, then clear"):
        task.execute(context_of(lambda dag_id: SimpleNamespace(is_paused=True)))
    with pytest.raises(AirflowException, match=r"Airflow does not give mtv\.p\.big-02"):
        task.execute(context_of(unknown))


def test_a_part_that_was_refused_does_not_start_the_next_one(settings):
    from types import SimpleNamespace

    from airflow.sdk.exceptions import AirflowSkipException

    from mtv.orchestration.operators import NextPartOperator
    from mtv.orchestration.runner import StepRunner
    from mtv.store import Store, default_dsn

    with Store.open(default_dsn(settings.state_folder)) as store:
        store.upgrade()
    runner = StepRunner(settings, SimpleNamespace(store_dsn=lambda: ""))
    task = NextPartOperator(task_id="next_part", next_part="mtv.p.w-02", runner=runner)
    with pytest.raises(AirflowSkipException, match="refused"):
        task.execute({"ti": SimpleNamespace(dag_id="mtv.p.w-01"), "run_id": "r"})


def test_a_plan_that_does_not_check_is_its_own_red_dag_beside_healthy_ones(settings, write_plan, good_plan):
    from airflow.sdk.exceptions import AirflowFailException

    from mtv.orchestration.loader import load_dags

    write_plan("dc1.yaml", good_plan)
    write_plan("dc2.yaml", good_plan.replace("max_vms_in_flight: 2", "max_vms_in_flite: 2"))
    found = {dag.dag_id: dag for dag in load_dags(settings)}
    assert sorted(found) == ["mtv.dc1.pilot", "mtv.dc1.rest", "mtv.dc2.invalid"]
    red = found["mtv.dc2.invalid"]
    assert "invalid" in red.tags
    (task,) = red.tasks
    with pytest.raises(AirflowFailException, match=r"dc2\.yaml:\d+:\d+: .*max_vms_in_flite"):
        task.execute({})


def test_a_plan_broken_during_its_wave_keeps_its_dags_for_the_run_that_goes_on(settings, write_plan, good_plan):
    from mtv.orchestration.loader import load_dags

    write_plan("dc1.yaml", good_plan)
    load_dags(settings)
    write_plan("dc1.yaml", good_plan + "  oops\n")
    broken = {dag.dag_id: dag for dag in load_dags(settings)}
    assert sorted(broken) == ["mtv.dc1.invalid", "mtv.dc1.pilot", "mtv.dc1.rest"]
    assert "invalid" in broken["mtv.dc1.pilot"].tags
    write_plan("dc1.yaml", good_plan)
    mended = {dag.dag_id: dag for dag in load_dags(settings)}
    assert sorted(mended) == ["mtv.dc1.pilot", "mtv.dc1.rest"]
    assert "invalid" not in mended["mtv.dc1.pilot"].tags


def test_a_starting_task_builds_only_its_own_dag_and_reads_no_plan(settings, write_plan, good_plan, asked, dags):
    from mtv.orchestration.loader import load_dags

    for path in [*settings.plans_folder.iterdir(), *settings.compiled_folder.iterdir()]:
        path.unlink()
    asked("mtv.dc1.rest")
    assert [dag.dag_id for dag in load_dags(settings)] == ["mtv.dc1.rest"]


def test_an_asked_dag_that_was_never_compiled_is_compiled(settings, write_plan, good_plan, asked):
    from mtv.orchestration.loader import load_dags

    write_plan("dc1.yaml", good_plan)
    asked("mtv.dc1.rest")
    assert "mtv.dc1.rest" in [dag.dag_id for dag in load_dags(settings)]


def test_the_dag_file_of_the_repository_gives_its_dags_to_airflow(settings, write_plan, good_plan, monkeypatch):
    write_plan("dc1.yaml", good_plan)
    monkeypatch.setenv("MTV_PLANS_FOLDER", str(settings.plans_folder))
    monkeypatch.setenv("MTV_STATE_FOLDER", str(settings.state_folder))
    spec = importlib.util.spec_from_file_location("waves_under_test", REPO / "dags" / "waves.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert vars(module)["mtv.dc1.pilot"].dag_id == "mtv.dc1.pilot"
    text = (REPO / "dags" / "waves.py").read_text().lower()
    assert "dag" in text
    assert "airflow" in text  # Airflow's safe mode skips files without both words


def test_loading_dags_imports_no_heavy_library(settings, write_plan, good_plan):
    import subprocess

    write_plan("dc1.yaml", good_plan)
    code = (
        "import sys\nfrom mtv.orchestration.loader import load_dags\nassert len(load_dags()) == 2\n"
        "heavy = {'pandas', 'great_expectations', 'pyVmomi', 'ovirtsdk4', 'openstack'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    environment = {
        **os.environ,
        "MTV_PLANS_FOLDER": str(settings.plans_folder),
        "MTV_STATE_FOLDER": str(settings.state_folder),
    }
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
