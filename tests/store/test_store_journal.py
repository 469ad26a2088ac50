"""Steps, evidence, changes on the source, progress, inventory."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from mtv.model.evidence import EvidenceKind, VmPhase
from mtv.model.plan import Plan
from mtv.model.transfer import Progress
from mtv.store import HeldByAnother, NotFound, Run, StaleHolder, Store


def test_a_step_is_kept_with_its_times_and_its_first_end(store: Store, run: Run) -> None:
    step = store.begin_step(run.id, "web-1", "prepare")
    (open_step,) = store.steps(run.id)
    assert (open_step.state, open_step.seconds) == ("running", None)
    store.end_step(step, state="failed", error="no such disk")
    store.end_step(step, state="success")
    (row,) = store.steps(run.id)
    assert (row.state, row.error) == ("failed", "no such disk")
    assert row.seconds is not None
    assert row.started_at.tzinfo is UTC
    assert (datetime.now(UTC) - row.started_at).total_seconds() < 600


def test_ending_a_step_that_never_began_is_an_error(store: Store, run: Run) -> None:
    with pytest.raises(NotFound, match="no step 99"):
        store.end_step(99, state="success")


def test_evidence_comes_back_in_order_and_by_kind(store: Store, run: Run) -> None:
    store.add_evidence(run.id, "web-1", EvidenceKind.BOOT, {"proven": False})
    store.add_evidence(run.id, "web-1", EvidenceKind.BOOT, {"proven": True, "lines": ['ü < & "']}, subject="console")
    store.add_evidence(run.id, "db-1", EvidenceKind.FAILURE, {"code": "x"})
    assert [row.document.get("proven") for row in store.evidence(run.id, "web-1")] == [False, True]
    assert [row.vm_id for row in store.evidence(run.id, kind=EvidenceKind.FAILURE)] == ["db-1"]
    assert store.evidence(run.id)[1].subject == "console"
    assert store.latest_evidence("dc1", "web-1", EvidenceKind.BOOT) == {"proven": True, "lines": ['ü < & "']}
    assert store.latest_evidence("dc1", "web-1", EvidenceKind.POWER) is None


def test_the_latest_evidence_is_looked_for_over_all_runs(store: Store, plan: Plan, run: Run) -> None:
    store.add_evidence(run.id, "web-1", EvidenceKind.TRANSFER, {"ok": True})
    store.finish_run(run.id, "failed")
    store.start_run(plan_hash=run.plan_hash, plan_name="dc1", wave="pilot", dag_id="d", dag_run_id="second")
    assert store.latest_evidence("dc1", "web-1", EvidenceKind.TRANSFER) == {"ok": True}


def test_evidence_of_an_unknown_run_is_refused(store: Store) -> None:
    with pytest.raises(NotFound, match="no run r9"):
        store.add_evidence("r9", "web-1", EvidenceKind.BOOT, {})


def test_changes_on_the_source_stay_open_until_undone_newest_first(store: Store, run: Run) -> None:
    for vm_id in ("web-1", "db-1"):
        store.claim_vm("dc1", vm_id, run.id)
    first = store.record_source_change(run.id, "web-1", "power", {"before": "on"})
    second = store.record_source_change(run.id, "web-1", "snapshot", {"name": "mtv-web-1"})
    store.record_source_change(run.id, "db-1", "power", {"before": "on"})
    assert [change.id for change in store.open_source_changes("dc1", "web-1")] == [second, first]
    store.undo_source_change(second)
    store.undo_source_change(second)
    assert [change.kind for change in store.open_source_changes("dc1", "web-1")] == ["power"]
    assert [change.undone_at is None for change in store.source_changes(run.id)] == [True, False, True]
    with pytest.raises(NotFound):
        store.undo_source_change(99)


def test_a_run_that_no_longer_holds_the_vm_may_not_change_its_source(store: Store, run: Run) -> None:
    store.claim_vm("dc1", "web-1", run.id)
    store.release_vm("dc1", "web-1", run.id, VmPhase.FAILED)
    with pytest.raises(StaleHolder, match="may not change its source"):
        store.record_source_change(run.id, "web-1", "power", {"before": "on"})
    assert store.open_source_changes("dc1", "web-1") == []


SHUTDOWN = {"connection": "vc", "source_id": "vm-1"}


def another_run(store: Store, plan: Plan) -> Run:
    other = plan.model_copy(update={"name": "dc2"})
    begun = store.start_run(
        plan_hash=store.put_plan(other), plan_name="dc2", wave="pilot", dag_id="mtv.dc2.pilot", dag_run_id="first"
    )
    store.claim_vm("dc2", "web-1", begun.id)
    return begun


def test_what_one_run_changes_alone_no_other_changes_before_it_lets_go(store: Store, plan: Plan, run: Run) -> None:
    other = another_run(store, plan)
    for vm_id in ("web-1", "db-1"):
        store.claim_vm("dc1", vm_id, run.id)
    store.record_source_change(run.id, "web-1", "power", SHUTDOWN, alone=True)
    store.record_source_change(run.id, "web-1", "power", SHUTDOWN, alone=True)  # it may repeat itself
    for begun, vm_id in ((other, "web-1"), (run, "db-1")):
        with pytest.raises(HeldByAnother, match="by plan dc1"):
            store.record_source_change(begun.id, vm_id, "power", SHUTDOWN, alone=True)
        with pytest.raises(HeldByAnother, match="by plan dc1"):
            store.require_source_alone(begun.plan_name, vm_id, "power", SHUTDOWN)
    assert store.source_changes(other.id) == []
    for differs in ({"connection": "vc2"}, {"source_id": "vm-2"}):
        store.record_source_change(other.id, "web-1", "power", SHUTDOWN | differs, alone=True)
    store.record_source_change(other.id, "web-1", "copies", SHUTDOWN, alone=True)
    store.release_vm("dc1", "web-1", run.id, VmPhase.FAILED)  # held: it is off, and stays on record
    store.record_source_change(other.id, "web-1", "power", SHUTDOWN, alone=True)


def test_a_source_is_one_whatever_connection_leads_to_it(store: Store, plan: Plan, run: Run) -> None:
    other = another_run(store, plan)
    store.claim_vm("dc1", "web-1", run.id)
    store.record_source_change(run.id, "web-1", "power", SHUTDOWN | {"identity": "vc-a/vm-1"}, alone=True)
    renamed = SHUTDOWN | {"connection": "vc2", "identity": "vc-a/vm-1"}
    with pytest.raises(HeldByAnother, match="by plan dc1"):
        store.record_source_change(other.id, "web-1", "power", renamed, alone=True)
    with pytest.raises(HeldByAnother, match="by plan dc1"):  # as an earlier version recorded it
        store.require_source_alone("dc2", "web-1", "power", SHUTDOWN)
    elsewhere = SHUTDOWN | {"identity": "vc-b/vm-1"}  # the connection leads to another source by now
    store.record_source_change(other.id, "web-1", "power", elsewhere, alone=True)


def test_of_two_runs_that_change_one_source_at_the_same_moment_one_is_refused(
    store: Store, plan: Plan, run: Run
) -> None:
    other = another_run(store, plan)
    store.claim_vm("dc1", "web-1", run.id)
    together = threading.Barrier(2)

    def record(begun: Run) -> bool:
        together.wait(timeout=60)
        try:
            store.record_source_change(begun.id, "web-1", "power", SHUTDOWN, alone=True)
        except HeldByAnother:
            return False
        return True

    with ThreadPoolExecutor(2) as pool:
        for _ in range(10):
            assert sorted(pool.map(record, (run, other))) == [False, True]
            for begun in (run, other):
                for change in store.source_changes(begun.id):
                    store.undo_source_change(change.id)


def test_progress_keeps_the_newest_line_of_each_disk(store: Store, run: Run) -> None:
    for done in (1, 5):
        for disk in ("d0", "d1"):
            store.put_progress(run.id, "web-1", "transfer", Progress(disk=disk, bytes_done=done, bytes_total=9))
    rows = store.progress(run.id)
    assert [(row.progress.disk, row.progress.bytes_done) for row in rows] == [("d0", 5), ("d1", 5)]
