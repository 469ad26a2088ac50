"""A real Airflow runs waves of small steps; the transfer of the plan `pods` is a real pod in the lab's cluster.

One Airflow serves all of them: it takes longer to start than its waves take.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sqlite3
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

import mtv
from lab.airflow.server import AirflowServer
from lab.state import PYTHON_PATH
from mtv.model.evidence import VmPhase
from tests.leaks import Rows, Secrets, fernet_of
from tests.orchestration.live_airflow_kit import Live, running_airflow, until

pytestmark = [pytest.mark.airflow, pytest.mark.lab]
SECRET = "canary-in-the-secret"


@pytest.fixture(scope="module")
def live(tmp_path_factory, lab) -> Iterator[Live]:
    """An Airflow whose pods run in the lab's cluster, in a namespace of their own."""
    from kubernetes import client, config

    endpoints = lab.endpoints("cluster")
    core = client.CoreV1Api(config.new_client_from_config(endpoints["kubeconfig"]))
    namespace = f"live-{uuid.uuid4().hex[:8]}"
    core.create_namespace({"metadata": {"name": namespace}})
    connection = {"conn_type": "kubernetes", "extra": {"kube_config_path": endpoints["kubeconfig"]}}
    settings = {"LIVE_NAMESPACE": namespace, "LIVE_IMAGE": endpoints["images"]["mover"]}
    try:
        yield from running_airflow(tmp_path_factory.mktemp("live"), {"lab-cluster": connection}, settings)
    finally:
        core.delete_namespace(namespace)
        core.api_client.close()


@pytest.fixture
def core(live: Live, lab):
    from kubernetes import client, config

    api = config.new_client_from_config(lab.endpoints("cluster")["kubeconfig"])
    for name in ("open", "result", "hold", "held"):
        (live.gate / name).unlink(missing_ok=True)
    yield client.CoreV1Api(api)
    api.close()


@pytest.fixture(scope="module")
def sad(live: Live) -> tuple[str, str]:
    """The first run of the plan `sad`, ended: a second one would take only the VM that failed."""
    dag_id, run_id = live.start("sad")
    assert live.api.wait_for_run(dag_id, run_id, timeout_s=600) == "failed"
    return dag_id, run_id


def test_a_wave_of_more_vms_than_may_be_in_flight_runs_to_its_end_in_turns(live: Live):
    dag_id, run_id = live.start("turns")
    assert live.api.wait_for_run(dag_id, run_id, timeout_s=600) == "success"
    with live.store() as store:
        run = store.run_of(dag_id, run_id)
        rows = store.steps(run.id)
        assert {row.vm_id: row.phase for row in store.vms("turns")} == dict.fromkeys(run.frozen_vms, VmPhase.MIGRATED)
    assert _most_at_once(rows) <= 2
    labels = {
        task["rendered_map_index"] for task in live.api.tasks(dag_id, run_id) if task["task_id"] == "cold.prepare"
    }
    assert labels == {f"VM {n}" for n in range(3)}


def _most_at_once(rows) -> int:
    begun = {row.vm_id: row.started_at for row in rows if row.step == "prepare"}
    ended = {row.vm_id: row.finished_at for row in rows if row.step == "settle"}
    return max(sum(begun[vm] <= at < ended[vm] for vm in begun) for at in begun.values())


def test_a_part_that_has_ended_starts_the_next_one_even_if_a_vm_failed(live: Live):
    first, second = "mtv.parts.w-01", "mtv.parts.w-02"
    for dag_id in (first, second):
        live.api.wait_for_dag(dag_id, timeout_s=300)
    live.api.unpause(first)  # as a person would: the others are not paused
    run_id = live.api.trigger(first)
    assert live.api.wait_for_run(first, run_id, timeout_s=600) == "failed"
    assert live.states(first, run_id)["next_part", -1] == "success"
    assert live.api.wait_for_run(second, run_id, timeout_s=600) == "success"
    with live.store() as store:
        assert [store.vm("parts", f"vm-{n}").phase for n in (0, 1)] == [VmPhase.FAILED, VmPhase.MIGRATED]


@pytest.mark.usefixtures("sad")
def test_one_copy_of_mtv_serves_worker_triggerer_and_api_server(live: Live):
    """The worker wrote what it saw; the others are asked what could mislead them."""
    assert (live.gate / "mtv-file-worker").read_text() == mtv.__file__
    for component in ("api-server", "triggerer", "scheduler", "dag-processor"):
        pid = int(live.server.pidfile(component).read_text().split()[0])
        environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        assert f"PYTHONPATH={PYTHON_PATH}".encode() in environment, "another copy could come first"


def test_a_vm_whose_prepare_fails_is_settled_and_turns_the_run_red_while_others_migrate(live: Live, sad):
    dag_id, run_id = sad
    states = live.states(dag_id, run_id)
    assert states["cold.prepare", 0] == "failed"
    assert states["cold.transfer", 0] == "upstream_failed"
    assert states["cold.settle", 0] == "success"
    assert states["cold.settle", 1] == "success"
    assert states["report", -1] == "success"
    assert states["verdict", -1] == "failed"
    assert live.api.task(dag_id, run_id, "cold.prepare", 0)["try_number"] == 1, "a permanent error is not tried again"
    with live.store() as store:
        assert store.vm("sad", "vm-0").phase is VmPhase.FAILED
        assert store.vm("sad", "vm-1").phase is VmPhase.MIGRATED


def test_a_settled_vm_begins_again_only_if_all_that_follows_was_cleared_with_it(live: Live):
    dag_id, run_id = live.start("again")
    assert live.api.wait_for_run(dag_id, run_id, timeout_s=600) == "failed"
    with live.store() as store:
        run = store.run_of(dag_id, run_id)
        # `settle` alone beside it runs at once: the task before it is over.
        for beside in ([], [("cold.settle", 0)]):
            live.api.clear(dag_id, run_id, [("cold.prepare", 0), *beside])
            assert live.api.wait_for_run(dag_id, run_id, timeout_s=600) == "failed"
            assert live.logs(dag_id).count("[cleared-alone] vm-0 was settled in this run") == 1 + len(beside)
        attempts = [row.step for row in store.steps(run.id) if row.vm_id]
        assert attempts == ["prepare", "settle", "settle"], "prepare has begun"

        live.api.clear(dag_id, run_id, [("cold.prepare", 0)], downstream=True)
        assert live.api.wait_for_run(dag_id, run_id, timeout_s=600) == "failed"
        again = [row.step for row in store.steps(run.id) if row.vm_id][len(attempts) :]
    assert again == ["queue", "prepare", "settle"]


def test_only_freeze_leaves_an_xcom_and_it_holds_ids(live: Live, sad):
    dag_id, _ = sad
    with sqlite3.connect(live.folder / "airflow.db") as database:
        query = "select distinct task_id, key, value from xcom where dag_id = ?"
        rows = database.execute(query, (dag_id,)).fetchall()
    assert {(task, key) for task, key, _ in rows} == {("freeze", "return_value")}
    assert all(set(json.loads(json.loads(value) if value.startswith('"') else value)) for _, _, value in rows)


def test_clearing_freeze_gives_the_same_vms_again(live: Live, sad):
    dag_id, run_id = sad
    before = [entry for entry in live.api.tasks(dag_id, run_id) if entry["task_id"] == "cold.prepare"]
    live.api.clear(dag_id, run_id, ["freeze"])
    assert live.api.wait_for_run(dag_id, run_id, timeout_s=600) in ("success", "failed")
    after = [entry for entry in live.api.tasks(dag_id, run_id) if entry["task_id"] == "cold.prepare"]
    assert [entry["map_index"] for entry in after] == [entry["map_index"] for entry in before]


def _running_pod(live: Live, core, *, other_than: str = ""):
    def look():
        pods = [
            pod
            for pod in core.list_namespaced_pod(live.namespace).items
            if pod.status.phase == "Running" and pod.metadata.name != other_than and not pod.metadata.deletion_timestamp
        ]
        return pods[0] if len(pods) == 1 else None

    return until(look, what="one running pod")


def _is_deferred(live: Live, dag_id: str, run_id: str) -> bool:
    return live.states(dag_id, run_id).get(("cold.transfer", 0)) == "deferred"


def _is_watched(live: Live, dag_id: str, run_id: str) -> bool:
    """Whether the pod's trigger has begun. If cancelled sooner, it ends no pod: `settle` does then."""
    with live.store() as store:
        run = store.run_of(dag_id, run_id)
        return _is_deferred(live, dag_id, run_id) and run is not None and bool(store.progress(run.id))


def test_a_pod_step_outlives_its_worker_and_its_triggerer_and_takes_pod_and_secret_away(live: Live, core):
    (live.gate / "hold").touch()
    dag_id, run_id = live.start("pods")
    pod = _running_pod(live, core)
    (secret,) = core.list_namespaced_secret(live.namespace).items
    assert [(owner.kind, owner.uid) for owner in secret.metadata.owner_references] == [("Pod", pod.metadata.uid)]

    _kill_the_worker(live)
    until(lambda: _is_deferred(live, dag_id, run_id), what="another worker to find the pod")
    with live.store() as store:
        run = until(lambda: store.run_of(dag_id, run_id), what="the run")
        (row,) = until(lambda: store.progress(run.id), what="progress in the store")
    assert (row.vm_id, row.step, row.progress.disk) == ("vm-0", "transfer", "disk-0")
    rows = Rows(f"sqlite:///{live.folder / 'airflow.db'}", fernet_of(live.server.home / "airflow.cfg"))
    with rows.opened() as database:
        trigger = b"".join(rows.texts(database, rows.tables(database)["trigger"]))
    assert pod.metadata.name.encode() in trigger, "the trigger was not read in clear"
    assert not Secrets([SECRET.encode()]).in_bytes(trigger)
    assert live.api.task(dag_id, run_id, "cold.transfer", 0)["rendered_map_index"] == "VM 0"

    _kill_hard(live.server, "triggerer")
    live.server.start_component("triggerer")
    (live.gate / "open").touch()
    assert live.api.wait_for_run(dag_id, run_id, timeout_s=600) == "success"
    assert live.api.task(dag_id, run_id, "cold.transfer", 0)["try_number"] == 2, "the killed worker's, and one more"
    with live.store() as store:
        assert pod.metadata.name == f"vm-0-transfer-{store.vm('pods', 'vm-0').epoch}", "another pod was asked for"
    assert json.loads((live.gate / "result").read_text())["sum"] == hashlib.sha256(SECRET.encode()).hexdigest()
    assert core.list_namespaced_pod(live.namespace).items == []
    until(lambda: not core.list_namespaced_secret(live.namespace).items, what="the Secret to go with its pod")
    logs = live.logs(dag_id)
    assert "disk-0: copy" in logs
    assert "gate is open" in logs
    assert SECRET not in logs


def _kill_the_worker(live: Live) -> None:
    """Kill the process of the task that has made its pod, and first the worker that watches over it."""
    held = live.gate / "held"
    until(lambda: held.exists() and held.read_text(), what="a task that stands still")
    task = int(held.read_text())
    worker = int(Path(f"/proc/{task}/stat").read_text().rpartition(")")[2].split()[1])
    (live.gate / "hold").unlink()
    for pid in (worker, task):
        os.kill(pid, signal.SIGKILL)


def _kill_hard(server: AirflowServer, component: str) -> None:
    from lab.process import stop_daemon

    pid = int(server.pidfile(component).read_text().split()[0])
    os.kill(pid, signal.SIGKILL)
    stop_daemon(server.pidfile(component), timeout_s=1)


def test_marking_the_run_failed_ends_the_pod_settles_the_vm_and_leaves_the_run_red(live: Live, core):
    dag_id, run_id = live.start("pods")
    _running_pod(live, core)
    until(lambda: _is_watched(live, dag_id, run_id), what="the trigger to watch the pod")
    live.api.mark_run(dag_id, run_id, "failed")
    until(lambda: not core.list_namespaced_pod(live.namespace).items, what="the pod to be gone")
    until(lambda: not core.list_namespaced_secret(live.namespace).items, what="the Secret to be gone")
    assert live.api.wait_for_run(dag_id, run_id, timeout_s=600) == "failed"
    states = live.states(dag_id, run_id)
    assert (states["cold.settle", 0], states["report", -1], states["verdict", -1]) == ("success", "success", "failed")
    with live.store() as store:
        run = store.run_of(dag_id, run_id)
        assert run.state == "failed"
        assert store.vm("pods", "vm-0").holder == ""


def test_a_wave_whose_plan_is_taken_away_while_it_runs_goes_on_to_its_end(live: Live, core):
    dag_id, run_id = live.start("left")
    until(lambda: _is_deferred(live, dag_id, run_id), what="its pod to be watched")
    (live.gate / "no-left").touch()
    live.api.parse_again(dag_id)
    until(lambda: _is_closed(live, dag_id), what="the DAG to be drawn without its plan")
    (live.gate / "open").touch()
    assert live.api.wait_for_run(dag_id, run_id, timeout_s=600) == "success"
    assert live.states(dag_id, run_id)["cold.settle", 0] == "success"


def _is_closed(live: Live, dag_id: str) -> bool:
    found = live.api.wait_for_dag(dag_id)
    assert not found["is_stale"], "nobody would look at its run again"
    return "invalid" in {tag["name"] for tag in found["tags"]}


def test_clearing_a_pod_step_ends_its_pod_and_a_new_one_does_the_work(live: Live, core):
    dag_id, run_id = live.start("pods")
    first = _running_pod(live, core)
    until(lambda: _is_watched(live, dag_id, run_id), what="the trigger to watch the pod")
    live.api.clear(dag_id, run_id, [("cold.transfer", 0)])
    second = _running_pod(live, core, other_than=first.metadata.name)
    assert second.metadata.uid != first.metadata.uid
    (live.gate / "open").touch()
    assert live.api.wait_for_run(dag_id, run_id, timeout_s=600) == "success"
    assert core.list_namespaced_pod(live.namespace).items == []


def test_a_pod_step_that_finds_all_nfc_streams_taken_waits_in_the_triggerer_and_costs_no_retry(live: Live, core):
    (live.gate / "open").touch()
    with live.store() as store:
        store.upgrade()
        store.claim_vm("another", "vm-9", "another-run")
        store.take_nfc_streams("another", "vm-9", "another-run", host="esx1", wanted=10, capacity=10)
        dag_id, run_id = live.start("pods")
        until(lambda: _is_deferred(live, dag_id, run_id), what="the task to wait")
        assert core.list_namespaced_pod(live.namespace).items == []
        store.release_vm("another", "vm-9", "another-run", VmPhase.FAILED)
    assert live.api.wait_for_run(dag_id, run_id, timeout_s=600) == "success"
    task = live.api.task(dag_id, run_id, "cold.transfer", 0)
    assert (task["try_number"], task["rendered_map_index"]) == (1, "VM 0")
    assert "waiting: the 10 NFC streams of host esx1 are taken by another/vm-9 (10)" in live.logs(dag_id)
