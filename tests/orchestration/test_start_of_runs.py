"""Freeze: what a run pins, and when it may not start. Real store, real plan files, no source and no cluster."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from mtv.model.errors import PermanentError, PlanError
from mtv.model.evidence import VmPhase
from mtv.model.plan import Window
from mtv.plan import load
from mtv.store import RunRefused, Store, default_dsn
from mtv.store.runs import hash_of


class NoConnections:
    """The store is the SQLite file of the settings."""

    def store_dsn(self) -> str:
        return ""

    def get(self, conn_id):
        raise PermanentError(f"no connection {conn_id}")


@pytest.fixture
def runner(settings):
    from mtv.orchestration.runner import StepRunner

    return StepRunner(settings, connections=NoConnections())


@pytest.fixture
def outline_of(settings):
    from mtv.orchestration.plans_folder import read_outlines

    def find(dag_id: str):
        return next(outline for outline in read_outlines(settings) if outline.dag_id == dag_id)

    return find


def ref(run_id: str, dag_id: str = "mtv.dc1.pilot"):
    from mtv.orchestration.runner import TaskRef

    return TaskRef(dag_id=dag_id, run_id=run_id)


def quiet(line: str) -> None:
    del line


def store_of(settings) -> Store:
    return Store.open(default_dsn(settings.state_folder))


def test_freeze_cleared_returns_the_same_vms_in_the_same_order(runner, outline_of, write_plan, good_plan):
    write_plan("dc1.yaml", good_plan)
    outline = outline_of("mtv.dc1.pilot")
    first = runner.freeze(outline, ref("r1"), quiet)
    assert first == ["web-1", "db-1", "app-1"]
    assert runner.freeze(outline, ref("r1"), quiet) == first


def test_freeze_cleared_alone_after_the_run_has_ended_does_not_leave_it_active(
    runner, outline_of, write_plan, good_plan, settings
):
    write_plan("dc1.yaml", good_plan)
    outline = outline_of("mtv.dc1.pilot")
    first = runner.freeze(outline, ref("r1"), quiet)
    finish(settings, "mtv.dc1.pilot", "r1")
    assert runner.freeze(outline, ref("r1"), quiet) == first
    with store_of(settings) as store:
        assert store.active_run("dc1") is None
    assert runner.freeze(outline, ref("r2"), quiet) == first, "a new run may start"


def test_a_plan_edited_during_its_wave_does_not_reach_the_run(runner, outline_of, write_plan, good_plan, settings):
    write_plan("dc1.yaml", good_plan)
    frozen = runner.freeze(outline_of("mtv.dc1.pilot"), ref("r1"), quiet)
    write_plan("dc1.yaml", good_plan.replace("{name: web-1}, {name: db-1}", "{name: other-1}"))
    edited = outline_of("mtv.dc1.pilot")
    assert runner.freeze(edited, ref("r1"), quiet) == frozen
    with store_of(settings) as store:
        run = store.run_of("mtv.dc1.pilot", "r1")
        assert [vm.id for vm in store.plan(run.plan_hash).wave("pilot").vms] == frozen


def test_a_plan_broken_during_its_wave_lets_the_run_go_on_and_refuses_a_new_one(
    runner, outline_of, write_plan, good_plan, settings
):
    write_plan("dc1.yaml", good_plan)
    frozen = runner.freeze(outline_of("mtv.dc1.pilot"), ref("r1"), quiet)
    write_plan("dc1.yaml", good_plan + "  oops\n")
    broken = outline_of("mtv.dc1.pilot")
    assert runner.freeze(broken, ref("r1"), quiet) == frozen
    with pytest.raises(PlanError, match=r"dc1\.yaml"):
        runner.freeze(broken, ref("r2"), quiet)


def test_a_plan_edited_after_its_dag_was_drawn_starts_as_the_file_is_now(runner, outline_of, write_plan, good_plan):
    write_plan("dc1.yaml", good_plan)
    drawn = outline_of("mtv.dc1.pilot")
    write_plan("dc1.yaml", good_plan.replace("{name: web-1}, {name: db-1}", "{name: other-1}"))
    told: list[str] = []
    assert "other-1" in runner.freeze(drawn, ref("r1"), told.append)
    assert "edited since Airflow drew this DAG" in told[0]


def test_a_plan_broken_after_its_dag_was_drawn_is_refused_with_its_place(runner, outline_of, write_plan, good_plan):
    write_plan("dc1.yaml", good_plan)
    drawn = outline_of("mtv.dc1.pilot")
    write_plan("dc1.yaml", good_plan + "  oops\n")
    with pytest.raises(PlanError, match=r"dc1\.yaml:\d+"):
        runner.freeze(drawn, ref("r1"), quiet)


def test_a_plan_mended_after_its_dag_was_drawn_red_starts(runner, outline_of, write_plan, good_plan):
    write_plan("dc1.yaml", good_plan)
    outline_of("mtv.dc1.pilot")
    write_plan("dc1.yaml", good_plan + "  oops\n")
    red = outline_of("mtv.dc1.pilot")
    write_plan("dc1.yaml", good_plan)
    assert red.problems
    assert runner.freeze(red, ref("r1"), quiet) == ["web-1", "db-1", "app-1"]


def test_a_plan_whose_edit_needs_other_tasks_waits_until_its_dag_is_drawn_anew(
    runner, outline_of, write_plan, good_plan, settings
):
    write_plan("dc1.yaml", good_plan)
    drawn = outline_of("mtv.dc1.pilot")
    edited = good_plan.replace("{name: db-1}", "{name: db-1, skip_guest_conversion: true}")
    assert edited != good_plan
    write_plan("dc1.yaml", edited)
    with pytest.raises(PermanentError, match="start the run again in a minute") as error:
        runner.freeze(drawn, ref("r1"), quiet)
    assert error.value.code == "PlanChanged"
    with store_of(settings) as store:
        assert store.run_of("mtv.dc1.pilot", "r1") is None
    assert len(runner.freeze(outline_of("mtv.dc1.pilot"), ref("r1"), quiet)) == 3


@pytest.mark.parametrize("edit", ["renamed", "removed"])
def test_a_wave_that_left_its_plan_after_its_dag_was_drawn_is_refused(
    runner, outline_of, write_plan, good_plan, settings, edit
):
    write_plan("dc1.yaml", good_plan)
    drawn = outline_of("mtv.dc1.rest")
    if edit == "renamed":
        write_plan("dc1.yaml", good_plan.replace("  rest:", "  others:"))
    else:
        (settings.plans_folder / "dc1.yaml").unlink()
    with pytest.raises(PermanentError, match=r"dc1\.yaml no longer has .* \(wave rest\)"):
        runner.freeze(drawn, ref("r1", "mtv.dc1.rest"), quiet)


def test_a_second_run_of_a_plan_is_refused_with_the_holders_name(runner, outline_of, write_plan, good_plan):
    write_plan("dc1.yaml", good_plan)
    runner.freeze(outline_of("mtv.dc1.pilot"), ref("r1"), quiet)
    with pytest.raises(RunRefused, match=r"mtv\.dc1\.pilot r1"):
        runner.freeze(outline_of("mtv.dc1.rest"), ref("r2", "mtv.dc1.rest"), quiet)


def test_a_later_run_takes_only_vms_that_are_not_migrated(runner, outline_of, write_plan, good_plan, settings):
    write_plan("dc1.yaml", good_plan)
    outline = outline_of("mtv.dc1.pilot")
    runner.freeze(outline, ref("r1"), quiet)
    with store_of(settings) as store:
        run = store.run_of("mtv.dc1.pilot", "r1")
        store.claim_vm("dc1", "db-1", run.id)
        store.release_vm("dc1", "db-1", run.id, VmPhase.MIGRATED)
        store.finish_run(run.id, "failed")
    assert runner.freeze(outline, ref("r2"), quiet) == ["web-1", "app-1"]


def test_a_part_takes_its_own_vms_only(runner, outline_of, write_plan, good_plan, settings):
    rows = "\n".join(f"    - {{name: vm-{n:03d}}}" for n in range(120))
    text = good_plan.partition("waves:")[0] + f"waves:\n  big:\n    vms:\n{rows}\n"
    write_plan("dc1.yaml", text)
    assert runner.freeze(outline_of("mtv.dc1.big-02"), ref("r1", "mtv.dc1.big-02"), quiet) == [
        f"vm-{n:03d}" for n in range(100, 120)
    ]


@pytest.fixture
def write_long_wave(write_plan, good_plan, monkeypatch):
    """Write a plan with one wave of these numbers of VMs, cut into parts of ten: SQLite carries no more at once."""
    monkeypatch.setattr("mtv.plan.parts.MAX_VMS_PER_RUN", 10)

    def write(numbers, wave: str = "") -> None:
        rows = "\n".join(f"    - {{name: vm-{n:03d}}}" for n in numbers)
        write_plan("dc1.yaml", good_plan.partition("waves:")[0] + f"waves:\n  big:\n{wave}    vms:\n{rows}\n")

    return write


def finish(settings, dag_id: str, run_id: str) -> None:
    with store_of(settings) as store:
        store.finish_run(store.run_of(dag_id, run_id).id, "failed")


@pytest.mark.parametrize(
    "edited",
    [
        pytest.param([n for n in range(23) if n != 7], id="a-row-removed"),
        pytest.param([50, *range(23)], id="a-row-inserted"),
    ],
)
def test_the_parts_of_a_wave_that_is_edited_while_it_runs_are_the_wave_as_it_began(
    runner, outline_of, write_long_wave, settings, edited
):
    write_long_wave(range(23))
    taken = runner.freeze(outline_of("mtv.dc1.big-01"), ref("r1", "mtv.dc1.big-01"), quiet)
    finish(settings, "mtv.dc1.big-01", "r1")
    write_long_wave(edited)
    for part in ("mtv.dc1.big-02", "mtv.dc1.big-03"):
        taken += runner.freeze(outline_of(part), ref("r1", part), quiet)
        finish(settings, part, "r1")
    assert taken == [f"vm-{n:03d}" for n in range(23)]
    with store_of(settings) as store:
        hashes = {store.run_of(f"mtv.dc1.big-{part:02d}", "r1").plan_hash for part in (1, 2, 3)}
    assert len(hashes) == 1, "one plan, as somebody approved it"
    alone = runner.freeze(outline_of("mtv.dc1.big-03"), ref("by-hand", "mtv.dc1.big-03"), quiet)
    assert alone == [f"vm-{n:03d}" for n in list(edited)[20:30]], "a part started on its own reads the file"


def test_a_plan_broken_between_two_parts_lets_the_wave_go_on(runner, outline_of, write_long_wave, write_plan, settings):
    write_long_wave(range(12))
    runner.freeze(outline_of("mtv.dc1.big-01"), ref("r1", "mtv.dc1.big-01"), quiet)
    finish(settings, "mtv.dc1.big-01", "r1")
    write_plan("dc1.yaml", "oops")
    assert len(runner.freeze(outline_of("mtv.dc1.big-02"), ref("r1", "mtv.dc1.big-02"), quiet)) == 2


def test_a_following_part_is_held_to_the_window_of_the_wave_as_it_began(runner, outline_of, write_long_wave, settings):
    write_long_wave(range(12))
    runner.freeze(outline_of("mtv.dc1.big-01"), ref("r1", "mtv.dc1.big-01"), quiet)
    finish(settings, "mtv.dc1.big-01", "r1")
    closed = "    window: {start: '2020-01-01 22:00', end: '2020-01-02 04:00', timezone: UTC}\n"
    write_long_wave(range(12), closed)
    assert len(runner.freeze(outline_of("mtv.dc1.big-02"), ref("r1", "mtv.dc1.big-02"), quiet)) == 2
    with pytest.raises(PermanentError, match="missed"):
        runner.freeze(outline_of("mtv.dc1.big-02"), ref("by-hand", "mtv.dc1.big-02"), quiet)


def test_a_part_that_the_wave_as_it_began_does_not_have_is_not_among_its_dags(
    runner, outline_of, write_long_wave, settings
):
    from airflow.sdk.exceptions import AirflowSkipException

    from mtv.orchestration.operators import NextPartOperator

    write_long_wave(range(12))
    runner.freeze(outline_of("mtv.dc1.big-01"), ref("r1", "mtv.dc1.big-01"), quiet)
    write_long_wave(range(23))
    assert runner.dags_of(ref("r1", "mtv.dc1.big-01")) == {"mtv.dc1.big-01", "mtv.dc1.big-02"}
    finish(settings, "mtv.dc1.big-01", "r1")
    runner.freeze(outline_of("mtv.dc1.big-02"), ref("r1", "mtv.dc1.big-02"), quiet)
    finish(settings, "mtv.dc1.big-02", "r1")
    added = outline_of("mtv.dc1.big-03")
    with pytest.raises(PermanentError, match="began without"):
        runner.freeze(added, ref("r1", "mtv.dc1.big-03"), quiet)
    task = NextPartOperator(task_id="next_part", next_part="mtv.dc1.big-03", runner=runner)
    with pytest.raises(AirflowSkipException, match="as it began ends here"):
        task.execute({"ti": SimpleNamespace(dag_id="mtv.dc1.big-02"), "run_id": "r1"})


def test_sqlite_refuses_a_wave_that_needs_postgresql(runner, outline_of, write_plan, good_plan):
    rows = "\n".join(f"    - {{name: vm-{n:03d}}}" for n in range(60))
    write_plan("dc1.yaml", good_plan.partition("waves:")[0] + f"waves:\n  big:\n    vms:\n{rows}\n")
    with pytest.raises(PermanentError, match="PostgreSQL"):
        runner.freeze(outline_of("mtv.dc1.big"), ref("r1", "mtv.dc1.big"), quiet)


def test_a_wave_waits_for_the_waves_before_it(runner, outline_of, write_plan, good_plan):
    write_plan("dc1.yaml", good_plan.replace("  rest:\n", "  rest:\n    start_after: [pilot]\n"))
    with pytest.raises(PermanentError, match="wave pilot has not completed: web-1, db-1, app-1"):
        runner.freeze(outline_of("mtv.dc1.rest"), ref("r1", "mtv.dc1.rest"), quiet)


def test_a_wave_that_asks_for_approval_starts_once_somebody_who_may_has_approved_it_as_it_is(
    runner, outline_of, write_plan, good_plan, settings
):
    asking = good_plan.replace("  pilot:\n", "  pilot:\n    approval: {by: [jane]}\n")
    write_plan("dc1.yaml", asking)

    def start(run_id: str) -> str:
        try:
            runner.freeze(outline_of("mtv.dc1.pilot"), ref(run_id), quiet)
        except PermanentError as error:
            return f"{error.code}: {error.message}"
        return "started"

    def approve(by: str, text: str = asking) -> None:
        write_plan("approved.yaml", text)
        plan = load(settings.plans_folder / "approved.yaml").plan.model_copy(update={"name": "dc1"})
        (settings.plans_folder / "approved.yaml").unlink()
        vms = {vm_id: ("f" * 64, {}) for vm_id in ("web-1", "db-1", "app-1")}
        with store_of(settings) as store:
            store.upgrade()
            store.approve(plan_name="dc1", wave="pilot", plan_hash=hash_of(plan), by=by, vms=vms)

    assert start("r1") == "WaveNotApproved: wave pilot is not approved: nobody has approved web-1, db-1, app-1"
    approve("joe")
    assert "joe may not approve it" in start("r1")
    approve("jane", asking.replace("jane", "jane, joe"))
    assert "the plan has changed since it was approved" in start("r1")
    approve("jane")
    assert start("r1") == "started"


WINDOW = Window(start="2026-12-05 22:00", end="2026-12-06 04:00", timezone="Europe/Berlin")


@pytest.mark.parametrize(
    ("now", "code"),
    [
        pytest.param(datetime(2026, 12, 5, 20, 59, tzinfo=UTC), "WindowNotOpen", id="before"),
        pytest.param(datetime(2026, 12, 6, 3, 0, tzinfo=UTC), "WindowMissed", id="at-its-end"),
    ],
)
def test_outside_its_window_a_wave_does_not_start(now, code):
    from mtv.plan.windows import check_window

    with pytest.raises(PermanentError) as error:
        check_window(WINDOW, now)
    assert error.value.code == code


def test_within_its_window_in_its_own_time_zone_a_wave_starts():
    from mtv.plan.windows import check_window

    check_window(WINDOW, datetime(2026, 12, 5, 21, 0, tzinfo=UTC))


def test_a_step_of_a_vm_that_was_not_frozen_is_refused(runner, outline_of, write_plan, good_plan):
    write_plan("dc1.yaml", good_plan)
    runner.freeze(outline_of("mtv.dc1.pilot"), ref("r1"), quiet)
    with pytest.raises(PermanentError, match="big-1"):
        runner.vm_step("settle", "big-1", ref("r1"), quiet, named=quiet)


def test_a_step_before_freeze_names_the_task_to_clear(runner, settings):
    with store_of(settings) as store:
        store.upgrade()
    with pytest.raises(PermanentError, match="clear the task freeze"):
        runner.vm_step("settle", "web-1", ref("r1"), quiet, named=quiet)
