"""A real Airflow runs waves of small steps, with real pods where a step has one."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest

import mtv
from lab.airflow.api import AirflowApi
from lab.airflow.instance import airflow_in
from lab.airflow.server import AirflowServer
from mtv.model.evidence import VmPhase
from mtv.store import Store

T = TypeVar("T")
HERE = Path(__file__).parent
pytestmark = [pytest.mark.airflow, pytest.mark.timeout(900), pytest.mark.xdist_group("live-airflow")]
SECRET = "canary-in-the-secret"


def until(look: Callable[[], T], *, what: str, timeout_s: float = 240) -> T:
    end = time.monotonic() + timeout_s
    while not (found := look()):
        assert time.monotonic() < end, f"waited {timeout_s} s for {what}"
        time.sleep(0.5)
    return found


@dataclass
class Live:
    """A running Airflow with the DAGs of `live_dags`."""

    server: AirflowServer
    api: AirflowApi
    folder: Path
    gate: Path
    namespace: str

    def start(self, plan: str) -> tuple[str, str]:
        dag_id = f"mtv.{plan}.w"
        self.api.wait_for_dag(dag_id, timeout_s=120)
        self.api.unpause(dag_id)
        return dag_id, self.api.trigger(dag_id)

    def store(self) -> Store:
        return Store.open(f"sqlite:///{self.folder / 'mtv' / 'store.sqlite'}")

    def states(self, dag_id: str, run_id: str) -> dict[tuple[str, int], str]:
        return {(task["task_id"], task["map_index"]): task["state"] for task in self.api.tasks(dag_id, run_id)}

    def logs(self, dag_id: str) -> str:
        folder = self.server.home / "logs" / f"dag_id={dag_id}"
        return "\n".join(path.read_text(errors="replace") for path in folder.rglob("*.log*"))


@pytest.fixture(scope="module")
def live(tmp_path_factory) -> Iterator[Live]:
    """An Airflow without a cluster behind it."""
    yield from _airflow(tmp_path_factory.mktemp("live"), {}, {})


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
        yield from _airflow(tmp_path_factory.mktemp("live"), {"lab-cluster": connection}, settings)
    finally:
        core.delete_namespace(namespace)
        core.api_client.close()


def _airflow(folder: Path, connections: dict[str, Any], settings: dict[str, str]) -> Iterator[Live]:
    gate = folder / "gate"
    gate.mkdir(mode=0o777)
    gate.chmod(0o777)
    server = airflow_in(
        folder,
        connections=connections,
        settings={
            "AIRFLOW__CORE__DAGS_FOLDER": str(HERE / "live_dags"),
            "LIVE_GATE": str(gate),
            "MTV_POD_POLL_S": "1",
            "MTV_RETRY_DELAY_S": "1",
            # A triggerer that was killed is given up after this long.
            "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "10",
            **settings,
        },
    )
    try:
        server.start(timeout_s=240)
        api = AirflowApi(server.url)
        api.log_in()
        yield Live(server, api, folder, gate, settings.get("LIVE_NAMESPACE", ""))
    finally:
        server.stop()


def test_a_wave_of_more_vms_than_may_be_in_flight_runs_to_its_end_in_turns(live: Live):
    dag_id, run_id = live.start("turns")
    assert live.api.wait_for_run(dag_id, run_id, timeout_s=600) == "success"
    with live.store() as store:
        run = store.run_of(dag_id, run_id)
        rows = store.steps(run.id)
        assert {row.vm_id: row.phase for row in store.vms("turns")} == dict.fromkeys(run.frozen_vms, VmPhase.MIGRATED)
    assert _most_at_once(rows) <= 2
    labels = {task["rendered_map_index"] for task in live.api.tasks(dag_id, run_id) if task["map_index"] >= 0}
    assert labels == {f"VM {n}" for n in range(5)}


def _most_at_once(rows) -> int:
    begun = {row.vm_id: row.started_at for row in rows if row.step == "prepare"}
    ended = {row.vm_id: row.finished_at for row in rows if row.step == "settle"}
    return max(sum(begun[vm] <= at < ended[vm] for vm in begun) for at in begun.values())


def test_one_copy_of_mtv_serves_worker_triggerer_and_api_server(live: Live):
    """The worker writes what it sees; the others are asked what they have mapped."""
    dag_id, run_id = live.start("sad")
    until(lambda: (live.gate / "mtv-file-worker").exists(), what="the worker's answer")
    assert (live.gate / "mtv-file-worker").read_text() == mtv.__file__
    for component in ("api-server", "triggerer", "scheduler", "dag-processor"):
        pid = int(live.server.pidfile(component).read_text().split()[0])
        environment = Path(f"/proc/{pid}/environ").read_bytes()
        assert b"PYTHONPATH" not in environment, "another copy could come first"
    live.api.wait_for_run(dag_id, run_id, timeout_s=600)


def test_a_vm_whose_prepare_fails_is_settled_and_turns_the_run_red_while_others_migrate(live: Live):
    dag_id, run_id = live.start("sad")
    assert live.api.wait_for_run(dag_id, run_id, timeout_s=600) == "failed"
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


def test_only_freeze_leaves_an_xcom_and_it_holds_ids(live: Live):
    dag_id, run_id = live.start("sad")
    live.api.wait_for_run(dag_id, run_id, timeout_s=600)
    with sqlite3.connect(live.folder / "airflow.db") as database:
        rows = database.execute("select distinct task_id, key, value from xcom").fetchall()
    assert {(task, key) for task, key, _ in rows} == {("freeze", "return_value")}
    assert all(set(json.loads(json.loads(value) if value.startswith('"') else value)) for _, _, value in rows)


def test_clearing_freeze_gives_the_same_vms_again(live: Live):
    dag_id, run_id = live.start("sad")
    live.api.wait_for_run(dag_id, run_id, timeout_s=600)
    before = [entry for entry in live.api.tasks(dag_id, run_id) if entry["task_id"] == "cold.prepare"]
    live.api.clear(dag_id, run_id, ["freeze"])
    assert live.api.wait_for_run(dag_id, run_id, timeout_s=600) in ("success", "failed")
    after = [entry for entry in live.api.tasks(dag_id, run_id) if entry["task_id"] == "cold.prepare"]
    assert [entry["map_index"] for entry in after] == [entry["map_index"] for entry in before]


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


@pytest.mark.lab
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
    _open(live)
    assert live.api.wait_for_run(dag_id, run_id, timeout_s=600) == "success"
    assert json.loads((live.gate / "result").read_text())["sum"] == hashlib.sha256(SECRET.encode()).hexdigest()
    assert core.list_namespaced_pod(live.namespace).items == []
    until(lambda: not core.list_namespaced_secret(live.namespace).items, what="the Secret to go with its pod")
    logs = live.logs(dag_id)
    assert "disk-0: copy" in logs
    assert "gate is open" in logs
    assert SECRET not in logs


@pytest.mark.lab
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


@pytest.mark.lab
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


@pytest.mark.lab
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
