"""Runs that Airflow has lost, and VMs that nobody can settle any more."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from mtv.kubevirt.resources import CLAIMS
from mtv.model.errors import PermanentError
from mtv.model.evidence import EvidenceKind, VmPhase
from mtv.model.source import PowerState
from mtv.reporting import read_run
from mtv.steps import prepare, run, transfer
from mtv.steps.by_hand import close_run, forget_vm
from mtv.steps.context import RunContext
from mtv.store import RunRefused, Store
from tests.steps.conftest import through_validation
from tests.steps.walk import MakeRun, migrate, migrate_but_settle
from tests.steps.world import World

WHY = {"by": "anna", "reason": "its DAG run was deleted"}


def lost_while_copying(make_run: MakeRun) -> RunContext:
    """A run of which Airflow knows nothing any more, with its source shut down and its copy begun."""
    lost = make_run("lost")
    vm = through_validation(lost)
    prepare.prepare(vm)
    transfer.pod_request(vm)
    return lost


def test_a_run_that_airflow_lost_is_closed_and_the_next_one_settles_its_vm(
    make_run: MakeRun, world: World, store: Store
) -> None:
    lost = lost_while_copying(make_run)
    with pytest.raises(RunRefused):
        make_run("next")
    (held,) = close_run(store, lost.run.id, airflow_lost_it=True, **WHY)
    assert (held.vm_id, held.phase) == ("web-1", VmPhase.TRANSFERRING)
    assert store.run(lost.run.id).state == "failed"
    assert world.vm.power is PowerState.OFF, "closing touches nothing"
    (said,) = store.evidence(lost.run.id, "", EvidenceKind.BY_HAND)
    assert said.document == {"what": "run closed", "held": ["web-1"], **WHY}

    again = make_run("next")
    run.freeze(again)
    assert world.vm.power is PowerState.ON, "settled as a leftover"
    assert store.vm("first", "web-1").holder == ""
    migrate(through_validation(again), world)
    assert store.vm("first", "web-1").phase is VmPhase.MIGRATED


def test_a_run_that_may_be_worked_on_is_closed_only_by_who_says_that_airflow_lost_it(
    make_run: MakeRun, store: Store
) -> None:
    lost = lost_while_copying(make_run)
    in_a_year = datetime.now(UTC) + timedelta(days=365)
    with pytest.raises(PermanentError, match="not ended is transfer of web-1 — mark the run failed") as refused:
        close_run(store, lost.run.id, airflow_lost_it=False, now=in_a_year, **WHY)
    assert refused.value.code == "run-alive"
    assert store.run(lost.run.id).state == "running"
    assert store.evidence(lost.run.id, "", EvidenceKind.BY_HAND) == []


def test_a_run_between_two_steps_is_closed_once_it_has_been_quiet(make_run: MakeRun, store: Store) -> None:
    quiet = make_run()
    through_validation(quiet)
    with pytest.raises(PermanentError, match="its last trace is of"):
        close_run(store, quiet.run.id, airflow_lost_it=False, **WHY)
    close_run(store, quiet.run.id, airflow_lost_it=False, now=datetime.now(UTC) + timedelta(hours=2), **WHY)
    assert store.run(quiet.run.id).state == "failed"


def test_a_run_whose_vms_all_migrated_is_closed_green_and_a_closed_one_is_not_closed_again(
    make_run: MakeRun, world: World, store: Store
) -> None:
    done = make_run()
    migrate(through_validation(done), world)
    store.start_run(
        plan_hash=done.run.plan_hash, plan_name="first", wave="pilot", dag_id="mtv.first.pilot", dag_run_id="r1"
    )  # cleared, and then lost
    assert close_run(store, done.run.id, airflow_lost_it=True, **WHY) == []
    assert store.run(done.run.id).state == "success"
    with pytest.raises(PermanentError, match="has ended already"):
        close_run(store, done.run.id, airflow_lost_it=True, **WHY)


def test_a_vm_of_an_active_run_or_of_none_is_not_let_go(make_run: MakeRun, store: Store) -> None:
    lost = lost_while_copying(make_run)
    with pytest.raises(PermanentError, match=rf"is active and holds web-1 — mtv runs close {lost.run.id}"):
        forget_vm(store, "first", "web-1", gone="source", **WHY)
    with pytest.raises(PermanentError, match="is it web-1"):
        forget_vm(store, "first", "web-2", gone="source", **WHY)
    close_run(store, lost.run.id, airflow_lost_it=True, **WHY)
    forget_vm(store, "first", "web-1", gone="source", **WHY)
    with pytest.raises(PermanentError, match="no run holds web-1"):
        forget_vm(store, "first", "web-1", gone="source", **WHY)


def test_a_vm_is_let_go_without_a_call_to_source_or_target_and_the_reason_is_kept(
    make_run: MakeRun, world: World, store: Store
) -> None:
    lost = lost_while_copying(make_run)
    close_run(store, lost.run.id, airflow_lost_it=True, **WHY)
    before, claims = world.calls, world.all(CLAIMS)
    done = forget_vm(store, "first", "web-1", gone="source", by="anna", reason="its vCenter was scrapped")
    assert world.calls == before
    assert world.all(CLAIMS) == claims
    assert [change.detail["name"] for change in done.open_changes] == ["web-1"]
    row = store.vm("first", "web-1")
    assert (row.holder, row.phase) == ("", VmPhase.FAILED)
    assert row.epoch > done.before.epoch, "a mover that still runs is fenced off"
    (said,) = store.evidence(lost.run.id, "web-1", EvidenceKind.BY_HAND)
    assert said.document["reason"] == "its vCenter was scrapped"
    (vm,) = read_run(store, lost.run.id).vms
    assert vm.outcome == "failed"
    assert "anna let the VM go while it was transferring, unsettled: its vCenter" in vm.failures[-1].message


@pytest.mark.parametrize(
    ("gone", "phase"), [("source", VmPhase.VERIFIED), ("target", VmPhase.FAILED), ("both", VmPhase.FAILED)]
)
def test_a_vm_that_exists_on_the_target_keeps_its_phase_while_the_target_is_there(
    make_run: MakeRun, world: World, store: Store, gone: str, phase: VmPhase
) -> None:
    lost = make_run("lost")
    migrate_but_settle(through_validation(lost), world)
    close_run(store, lost.run.id, airflow_lost_it=True, **WHY)
    forget_vm(store, "first", "web-1", gone=gone, **WHY)
    assert store.vm("first", "web-1").phase is phase
