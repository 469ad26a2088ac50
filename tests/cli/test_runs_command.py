"""`mtv runs`: the list, and what is decided by hand, on both databases."""

from __future__ import annotations

import pytest

from mtv.cli import main
from mtv.model.evidence import VmPhase
from mtv.model.plan import Plan, PlannedVm, Source, Target, Wave
from mtv.store import Store
from tests.cli.test_store_command import place

__all__ = ["place"]

Output = pytest.CaptureFixture[str]
WHO = ["--by", "anna", "--reason", "its DAG run was deleted"]


@pytest.fixture
def lost(place: str) -> str:
    """An active run that holds a VM whose source it has shut down."""
    plan = Plan(
        name="dc1",
        source=Source(connection="vcenter"),
        target=Target(connection="ocp", namespace="finance"),
        waves=(Wave(name="pilot", vms=(PlannedVm(id="web-1", name="web-1"),)),),
    )
    with Store.open(place) as store:
        store.upgrade()
        run = store.start_run(
            plan_hash=store.put_plan(plan), plan_name="dc1", wave="pilot", dag_id="mtv.dc1.pilot", dag_run_id="r"
        )
        store.freeze_vms(run.id, ["web-1"])
        store.claim_vm("dc1", "web-1", run.id)
        store.advance("dc1", "web-1", run.id, VmPhase.TRANSFERRING)
        detail = {"before": "on", "connection": "vcenter", "name": "web-1", "source_id": "vm-1"}
        store.record_source_change(run.id, "web-1", "power", detail)
    return run.id


def test_a_lost_run_is_closed_and_what_it_holds_is_told(lost: str, place: str, capsys: Output) -> None:
    assert main(["runs", "close", lost, *WHO]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"mtv: Airflow may be working on run {lost}")
    assert error.rstrip().endswith("add --airflow-lost-it")
    assert main(["runs", "close", lost, *WHO, "--airflow-lost-it"]) == 0
    said = capsys.readouterr().out
    assert f"run {lost} of plan dc1, wave pilot: closed as failed" in said
    assert "web-1  transferring  1 change not undone" in said
    assert main(["runs"]) == 0
    assert "running" not in capsys.readouterr().out
    with Store.open(place) as store:
        assert store.active_run("dc1") is None


def test_a_vm_is_let_go_and_what_is_not_done_is_told(lost: str, place: str, capsys: Output) -> None:
    main(["runs", "close", lost, *WHO, "--airflow-lost-it"])
    capsys.readouterr()
    assert main(["runs", "forget", "dc1", "web-1", "--gone", "target", *WHO]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"web-1 of plan dc1: run {lost} holds it no more; it is failed" in said
    assert "web-1 on vcenter was shut down by run" in said
    assert "it is not started again" in said
    assert "in namespace finance of ocp are not removed, and none is stopped: -l mtv/plan=dc1,mtv/vm=web-1" in said
    with Store.open(place) as store:
        assert store.vm("dc1", "web-1").holder == ""


@pytest.mark.parametrize("missing", ["--by", "--reason", "--gone"])
def test_nobody_lets_a_vm_go_without_a_name_a_reason_and_what_is_gone(missing: str, capsys: Output) -> None:
    given = {"--by": "anna", "--reason": "why", "--gone": "source"}
    words = [word for option, value in given.items() if option != missing for word in (option, value)]
    with pytest.raises(SystemExit):
        main(["runs", "forget", "dc1", "web-1", *words])
    assert missing in capsys.readouterr().err
