"""A real Airflow runs waves whose transfer is a real pod in the lab's cluster."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sqlite3
import uuid
from collections.abc import Iterator

import pytest

from lab.airflow.server import AirflowServer
from tests.orchestration.live_airflow_kit import Live, running_airflow, until

pytestmark = [
    pytest.mark.airflow,
    pytest.mark.lab,
    pytest.mark.timeout(900),
    pytest.mark.xdist_group("live-airflow"),
]
SECRET = "canary-in-the-secret"


@pytest.fixture(scope="module")
def live_with_cluster(tmp_path_factory, lab) -> Iterator[Live]:
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
def core(live_with_cluster: Live, lab):
    from kubernetes import client, config

    api = config.new_client_from_config(lab.endpoints("cluster")["kubeconfig"])
    (live_with_cluster.gate / "open").unlink(missing_ok=True)
    (live_with_cluster.gate / "result").unlink(missing_ok=True)
    yield client.CoreV1Api(api)
    api.close()


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


def _open(live: Live) -> None:
    (live.gate / "open").touch()


def test_a_pod_step_brings_progress_result_and_takes_pod_and_secret_away(live_with_cluster: Live, core):
    live = live_with_cluster
    dag_id, run_id = live.start("pods")
    pod = _running_pod(live, core)
    (secret,) = core.list_namespaced_secret(live.namespace).items
    assert [(owner.kind, owner.uid) for owner in secret.metadata.owner_references] == [("Pod", pod.metadata.uid)]
    with live.store() as store:
        run = until(lambda: store.run_of(dag_id, run_id), what="the run")
        (row,) = until(lambda: store.progress(run.id), what="progress in the store")
    assert (row.vm_id, row.step, row.progress.disk) == ("vm-0", "transfer", "disk-0")
    with sqlite3.connect(live.folder / "airflow.db") as database:
        (trigger,) = database.execute("select kwargs from trigger").fetchall()
    assert SECRET not in str(trigger)
    assert live.api.task(dag_id, run_id, "cold.transfer", 0)["rendered_map_index"] == "VM 0"
    _open(live)
    assert live.api.wait_for_run(dag_id, run_id, timeout_s=600) == "success"
    assert json.loads((live.gate / "result").read_text())["sum"] == hashlib.sha256(SECRET.encode()).hexdigest()
    assert core.list_namespaced_pod(live.namespace).items == []
    until(lambda: not core.list_namespaced_secret(live.namespace).items, what="the Secret to go with its pod")
    logs = live.logs(dag_id)
    assert "disk-0: copy" in logs
    assert "gate is open" in logs
    assert SECRET not in logs


def test_a_killed_triggerer_finds_the_pod_again(live_with_cluster: Live, core):
    live = live_with_cluster
    dag_id, run_id = live.start("pods")
    pod = _running_pod(live, core)
    until(lambda: _is_deferred(live, dag_id, run_id), what="the task to be deferred")
    _kill_hard(live.server, "triggerer")
    live.server.start_component("triggerer")
    _open(live)
    assert live.api.wait_for_run(dag_id, run_id, timeout_s=600) == "success"
    assert live.api.task(dag_id, run_id, "cold.transfer", 0)["try_number"] == 1
    assert pod.metadata.name == "vm-0-transfer-" + pod.metadata.name.rpartition("-")[2]
    with live.store() as store:
        assert store.vm("pods", "vm-0").epoch == int(pod.metadata.name.rpartition("-")[2]), "no other pod was asked for"


def _kill_hard(server: AirflowServer, component: str) -> None:
    from lab.process import stop_daemon

    pid = int(server.pidfile(component).read_text().split()[0])
    os.kill(pid, signal.SIGKILL)
    stop_daemon(server.pidfile(component), timeout_s=1)


def test_marking_the_run_failed_ends_the_pod_settles_the_vm_and_leaves_the_run_red(live_with_cluster: Live, core):
    live = live_with_cluster
    dag_id, run_id = live.start("pods")
    _running_pod(live, core)
    until(lambda: _is_deferred(live, dag_id, run_id), what="the task to be deferred")
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


def test_clearing_a_pod_step_ends_its_pod_and_a_new_one_does_the_work(live_with_cluster: Live, core):
    live = live_with_cluster
    dag_id, run_id = live.start("pods")
    first = _running_pod(live, core)
    until(lambda: _is_deferred(live, dag_id, run_id), what="the task to be deferred")
    live.api.clear(dag_id, run_id, [("cold.transfer", 0)])
    second = _running_pod(live, core, other_than=first.metadata.name)
    assert second.metadata.uid != first.metadata.uid
    _open(live)
    assert live.api.wait_for_run(dag_id, run_id, timeout_s=600) == "success"
    assert core.list_namespaced_pod(live.namespace).items == []
