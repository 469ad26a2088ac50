"""Plans that cannot work, and plans that change: one clear error, nothing created, and the others go on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lab.state import write_secret
from mtv.kubevirt.resources import NAMESPACES
from mtv.model.source import PowerState
from tests.e2e.conftest import Factory

pytestmark = [pytest.mark.e2e, pytest.mark.lab, pytest.mark.timeout(2400)]

PLAN = """
    source: {{connection: {source}}}
    target: {{connection: lab-cluster, namespace: {namespace}}}
    network_map: {{VM Network: {{type: ignored}}, dvpg-app: {{type: ignored}}}}
    storage_map: {{"*": {{storage_class: lab-fs}}}}
    defaults: {{skip_guest_conversion: true}}
    waves:
      w: {{vms: [{{name: {vm}}}]}}
"""


def test_a_wrong_password_is_one_clear_error_and_creates_nothing(factory: Factory):
    path = Path(factory.endpoints["connections_file"])
    connections = json.loads(path.read_text())
    wrong = "not-the-password-of-anybody"
    connections["lab-wrong"] = {**connections["lab-vcenter"], "password": wrong}
    write_secret(path, json.dumps(connections))
    dag_id = factory.write_plan("wrong-password", PLAN.format(source="lab-wrong", namespace="wrong", vm="db-1"))

    dag_run_id, state = factory.run(dag_id)

    assert state == "failed"
    task = factory.api.task(dag_id, dag_run_id, "snapshot_inventory")
    assert task["state"] == "failed"
    assert task["try_number"] == 1, "a wrong password is not tried again"
    log = factory.api.log(dag_id, dag_run_id, "snapshot_inventory")
    assert "lab-wrong" in log
    assert "password" in log
    assert wrong not in log
    with factory.cluster() as cluster:
        assert cluster.get(NAMESPACES, "wrong") is None


@pytest.mark.parametrize("right", [True, False], ids=["right password", "wrong password"])
def test_the_test_button_says_whether_the_vcenter_lets_the_user_in(factory: Factory, right: bool):
    connection = json.loads(Path(factory.endpoints["connections_file"]).read_text())["lab-vcenter"]
    asked = {**connection, "connection_id": "pressed", "extra": json.dumps(connection.get("extra", {}))}
    if not right:
        asked["password"] = "not-the-password-of-anybody"
    works, message = factory.api.test_connection(asked)
    assert works is right, message
    assert asked["password"] not in message
    if not right:
        assert "password" in message


def test_a_plan_with_a_bad_row_is_red_and_hides_no_other(factory: Factory):
    plans = Path(factory.endpoints["plans"])
    rows = "wave,vm,target_name\nw,db-1,\nw,web-1,Not A Name\n"
    (plans / "bad-row.csv").write_text(rows)
    (plans / "bad-row.yaml").write_text(
        "source: {connection: lab-vcenter}\ntarget: {connection: lab-cluster, namespace: bad}\n"
    )
    good = factory.write_plan("good-neighbour", PLAN.format(source="lab-vcenter", namespace="good", vm="db-1"))
    factory.api.wait_for_dag("mtv.bad-row.invalid", timeout_s=180)
    factory.api.unpause("mtv.bad-row.invalid")

    dag_run_id, state = factory.run("mtv.bad-row.invalid")

    assert state == "failed"
    (task,) = factory.api.tasks("mtv.bad-row.invalid", dag_run_id)
    assert "bad-row.csv:3:" in factory.api.log("mtv.bad-row.invalid", dag_run_id, task["task_id"])
    assert factory.api.import_errors() == []
    dag_run_id, state = factory.run(good)
    assert state == "success", factory.errors(good, dag_run_id)


def test_a_plan_edited_during_its_wave_changes_nothing_of_the_wave(factory: Factory):
    plan = PLAN.format(source="lab-vcenter", namespace="edited", vm="db-1")
    dag_id = factory.write_plan("edited", plan)
    dag_run_id = factory.start(dag_id)
    factory.wait_for_step(dag_id, dag_run_id, "prepare", {"running", "success"})
    edited = PLAN.format(source="lab-vcenter", namespace="elsewhere", vm="web-1")
    factory.write_plan("edited", edited)

    state = factory.finish(dag_id, dag_run_id)

    assert state == "success", factory.errors(dag_id, dag_run_id)
    run = factory.store.run_of(dag_id, dag_run_id)
    assert run is not None
    assert run.frozen_vms == ("db-1",)
    with factory.cluster() as cluster:
        assert cluster.get(NAMESPACES, "elsewhere") is None
    assert factory.source_power("db-1") is PowerState.OFF
