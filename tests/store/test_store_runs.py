"""Plans and runs."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from mtv.model.plan import Plan
from mtv.store import NotFound, Run, RunRefused, Store


def start(store: Store, plan: Plan, dag_run_id: str) -> Run:
    return store.start_run(
        plan_hash=store.put_plan(plan),
        plan_name=plan.name,
        wave="pilot",
        dag_id="mtv.dc1.pilot",
        dag_run_id=dag_run_id,
    )


def test_a_plan_comes_back_as_it_was_put_and_has_one_hash(store: Store, plan: Plan) -> None:
    key = store.put_plan(plan)
    assert store.put_plan(plan) == key
    assert store.plan(key) == plan
    other = plan.model_copy(update={"description": "another"})
    assert store.put_plan(other) != key


def test_an_unknown_plan_or_run_is_said_to_be_unknown(store: Store) -> None:
    with pytest.raises(NotFound, match="no plan with the hash abc"):
        store.plan("abc")
    with pytest.raises(NotFound, match="no run r1"):
        store.run("r1")
    with pytest.raises(NotFound, match="no plan"):
        store.start_run(plan_hash="abc", plan_name="p", wave="w", dag_id="d", dag_run_id="r")


def test_starting_the_same_dag_run_again_gives_the_same_run(store: Store, plan: Plan, run: Run) -> None:
    edited = plan.model_copy(update={"description": "edited meanwhile"})
    again = start(store, edited, "first")
    assert again == run
    assert again.plan_hash == store.put_plan(plan), "the plan of the first start stays pinned"


def test_a_second_active_run_of_a_plan_is_refused_naming_the_holder(store: Store, plan: Plan, run: Run) -> None:
    with pytest.raises(RunRefused, match=f"{run.id}.*wave pilot.*mtv.dc1.pilot first"):
        start(store, plan, "second")
    assert store.run_of("mtv.dc1.pilot", "second") is None
    store.finish_run(run.id, "failed")
    assert start(store, plan, "second").state == "running"


def test_runs_of_two_plans_do_not_hinder_each_other(store: Store, plan: Plan, run: Run) -> None:
    assert start(store, plan.model_copy(update={"name": "dc2"}), "other").state == "running"


def test_a_finished_run_that_is_started_again_is_active_again(store: Store, plan: Plan, run: Run) -> None:
    store.finish_run(run.id, "failed")
    finished = store.run(run.id)
    assert finished.state == "failed"
    assert finished.finished_at is not None
    again = start(store, plan, "first")
    assert (again.id, again.state, again.finished_at) == (run.id, "running", None)


def test_a_finished_run_stays_finished_while_another_is_active(store: Store, plan: Plan, run: Run) -> None:
    store.finish_run(run.id, "failed")
    second = start(store, plan, "second")
    with pytest.raises(RunRefused, match=second.id):
        start(store, plan, "first")
    assert store.run(run.id).state == "failed"


def test_finishing_twice_keeps_the_first_verdict(store: Store, run: Run) -> None:
    store.finish_run(run.id, "failed")
    store.finish_run(run.id, "success")
    assert store.run(run.id).state == "failed"


def test_only_the_first_freeze_pins_vms(store: Store, run: Run) -> None:
    assert store.freeze_vms(run.id, ["b", "a"]) == ["b", "a"]
    assert store.freeze_vms(run.id, ["c"]) == ["b", "a"]
    assert store.active_vm_count() == 2


def test_an_empty_freeze_is_pinned_too(store: Store, run: Run) -> None:
    assert store.freeze_vms(run.id, []) == []
    assert store.freeze_vms(run.id, ["a"]) == []


def test_of_many_starts_at_once_one_wins_and_the_others_hear_its_name(store: Store, plan: Plan) -> None:
    store.put_plan(plan)

    def attempt(number: int) -> str:
        try:
            return start(store, plan, f"run-{number}").id
        except RunRefused as refused:
            return str(refused)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(attempt, range(8)))
    (winner,) = store.runs("dc1")
    assert answers.count(winner.id) == 1
    assert all(winner.id in answer for answer in answers)


def test_of_many_equal_starts_at_once_all_get_the_same_run(store: Store, plan: Plan) -> None:
    store.put_plan(plan)
    with ThreadPoolExecutor(8) as pool:
        runs = list(pool.map(lambda _: start(store, plan, "one"), range(8)))
    assert len({run.id for run in runs}) == 1
