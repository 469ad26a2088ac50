"""What one look of a waiting VM reads from the store, counted."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager

from sqlalchemy import Engine, event

from mtv.model.evidence import VmPhase
from mtv.model.plan import Plan, PlannedVm, Target, Wave
from mtv.orchestration.turn_trigger import TurnTrigger
from mtv.store import Store
from mtv.store.tables import RunRecord, StepRecord, VmRecord

STEPS = ("prepare", "transfer", "convert", "create_vm", "verify", "settle")


@contextmanager
def counted():
    """Count queries, and rows by the table that they are of."""
    seen: Counter[str] = Counter()

    def query(connection: object, cursor: object, statement: str, *more: object) -> None:
        seen["queries"] += statement.startswith("SELECT")

    def row(target: object, context: object) -> None:
        seen[type(target).__tablename__] += 1

    records = (RunRecord, StepRecord, VmRecord)
    event.listen(Engine, "before_cursor_execute", query)
    for record in records:
        event.listen(record, "load", row)
    try:
        yield seen
    finally:
        event.remove(Engine, "before_cursor_execute", query)
        for record in records:
            event.remove(record, "load", row)


def start_part(store: Store, plan: Plan, ids: list[str], part: int):
    run = store.start_run(
        plan_hash=store.put_plan(plan), plan_name="p", wave="w", dag_id=f"d-{part}", dag_run_id="r"
    )  # fmt: skip
    store.freeze_vms(run.id, ids)
    return store.run(run.id)


def walk(store: Store, run, vm_id: str, tries: int) -> None:
    """A VM goes all the way, each of its steps so many times."""
    store.claim_vm("p", vm_id, run.id)
    for step in STEPS:
        for _ in range(tries):
            store.end_step(store.begin_step(run.id, vm_id, step), state="success")
    store.release_vm("p", vm_id, run.id, VmPhase.MIGRATED)


def test_a_look_reads_a_row_a_vm_of_its_own_part_however_often_all_were_tried(store):
    ids = [f"vm-{n}" for n in range(30)]
    wave = Wave(name="w", vms=tuple(PlannedVm(id=vm, name=vm, source="s") for vm in ids))
    plan = Plan(name="p", target=Target(connection="c", namespace="n"), waves=(wave,))
    before = start_part(store, plan, ids[:20], 1)
    for vm_id in ids[:20]:
        walk(store, before, vm_id, tries=1)
    store.finish_run(before.id, "success")
    run = start_part(store, plan, ids[20:], 2)
    for vm_id in ids[20:24]:
        walk(store, run, vm_id, tries=3)
    store.begin_step(run.id, ids[24], "prepare")

    trigger = TurnTrigger(dag_id="d-2", run_id="r", vm_id=ids[29], limit=1, poll_s=1)
    with counted() as seen:
        assert not trigger.is_over(store)
    assert seen["queries"] <= 3
    assert (seen["runs"], seen["vms"], seen["steps"]) == (1, 4, 5)


def test_a_step_that_begins_reads_its_own_vm_alone(store):
    ids = ["vm-1", "vm-2"]
    wave = Wave(name="w", vms=tuple(PlannedVm(id=vm, name=vm, source="s") for vm in ids))
    plan = Plan(name="p", target=Target(connection="c", namespace="n"), waves=(wave,))
    run = start_part(store, plan, ids, 1)
    walk(store, run, "vm-1", tries=5)
    store.begin_step(run.id, "vm-2", "prepare")
    with counted() as seen:
        assert [row.step for row in store.open_steps(run.id, "vm-2")] == ["prepare"]
    assert seen["steps"] == 1
