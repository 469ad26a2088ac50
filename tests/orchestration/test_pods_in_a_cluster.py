"""Pods found again, replaced and ended, in the lab's real cluster; workers are processes that are killed hard."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import signal
import socket
import sqlite3
import time
import uuid
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from mtv.kubevirt.cluster import Cluster
from mtv.kubevirt.pods import PodRequest
from mtv.kubevirt.resources import NAMESPACES, PODS, SECRETS
from mtv.model.connection import Connection
from mtv.orchestration.pods.lifecycle import PodKey, Pods, result_of

pytestmark = pytest.mark.lab
LABELS = {"mtv/plan": "p", "mtv/vm": "web-1", "mtv/run": "r1", "mtv/role": "transfer", "mtv/wave": "w"}
WAIT_FOREVER = "trap 'exit 11' TERM; while :; do sleep 1 & wait $!; done"


def quiet(line: str) -> None:
    del line


@pytest.fixture
def connection(lab):
    return Connection(
        conn_id="lab", conn_type="kubernetes", extra={"kube_config_path": lab.endpoints("cluster")["kubeconfig"]}
    )


@pytest.fixture
def cluster(connection):
    with Cluster(connection) as opened:
        yield opened


@pytest.fixture
def namespace(cluster):
    name = f"pods-{uuid.uuid4().hex[:8]}"
    cluster.ensure_namespace(name)
    yield name
    cluster.delete(NAMESPACES, name, "")


@pytest.fixture
def request_of(lab, namespace):
    image = lab.endpoints("cluster")["images"]["mover"]

    def make(epoch: int, script: str, wanted: dict[str, str] = LABELS) -> PodRequest:
        name = f"web-1-transfer-{epoch}"
        container = {
            "name": "mover",
            "image": image,
            "command": ["sh", "-c", script],
            "volumeMounts": [{"name": "mtv", "mountPath": "/run/mtv"}],
        }
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": namespace, "labels": wanted},
            "spec": {
                "restartPolicy": "Never",
                "terminationGracePeriodSeconds": 2,
                "automountServiceAccountToken": False,
                "containers": [container],
                "volumes": [{"name": "mtv", "secret": {"secretName": name}}],
            },
        }
        return PodRequest(
            namespace=namespace, pod=pod, secret_name=name, secret_files={"password": "x"}, connection_id="lab"
        )

    return make


def reach(cluster: Cluster, key: PodKey, *phases: str) -> dict:
    def look():
        pod = cluster.get(PODS, key.name, key.namespace)
        return pod if pod and pod["status"].get("phase") in phases else None

    return cluster.wait(look, timeout_s=300, what=f"pod {key.name} to be {phases}")


def _worker(connection: Connection, request: PodRequest, note: Path, stage: str) -> None:
    """What a worker does until it is killed: create the pod, and with `stage` "secret" its Secret too."""

    def owned(key: PodKey) -> None:
        if stage == "pod":
            note.write_text(key.uid)
            time.sleep(600)

    with Cluster(connection) as cluster:
        key = Pods(cluster, quiet).create(request, owned=owned)
        note.write_text(key.uid)
        time.sleep(600)


def kill_worker_at(stage: str, connection: Connection, request: PodRequest, note: Path) -> str:
    """Run a worker up to a stage, kill it hard, and return the uid of the pod that it made."""
    worker = multiprocessing.get_context("spawn").Process(target=_worker, args=(connection, request, note, stage))
    worker.start()
    end = time.monotonic() + 120
    while not (note.exists() and note.read_text()):
        assert worker.is_alive(), "the worker has ended"
        assert time.monotonic() < end, "the worker did not come that far"
        time.sleep(0.1)
    os.kill(worker.pid, signal.SIGKILL)
    worker.join()
    worker.close()
    return note.read_text()


def test_the_next_try_finds_the_pod_of_a_worker_that_was_killed(cluster, connection, namespace, request_of, tmp_path):
    uid = kill_worker_at("secret", connection, request_of(1, WAIT_FOREVER), tmp_path / "uid")
    pods = Pods(cluster, quiet)
    found = pods.find(namespace, LABELS)
    assert found.uid == uid
    reach(cluster, found, "Running")
    assert not pods.has_ended(found)
    pods.end(found)


def test_a_pod_whose_worker_died_before_its_secret_is_replaced(cluster, connection, namespace, request_of, tmp_path):
    kill_worker_at("pod", connection, request_of(1, WAIT_FOREVER), tmp_path / "uid")
    pods = Pods(cluster, quiet)
    assert pods.find(namespace, LABELS) is None
    assert cluster.find(PODS, namespace, LABELS) == []


def test_a_pod_that_ended_while_nobody_watched_is_still_read(cluster, namespace, request_of):
    pods = Pods(cluster, quiet)
    key = pods.create(request_of(1, "printf '{\"ok\":true}' > /dev/termination-log"), owned=lambda key: None)
    reach(cluster, key, "Succeeded")
    found = pods.find(namespace, LABELS)
    assert pods.has_ended(found)
    assert result_of(pods.read(found), found) == '{"ok":true}'


def test_ending_a_pod_takes_its_secret_along(cluster, namespace, request_of):
    pods = Pods(cluster, quiet)
    key = pods.create(request_of(1, WAIT_FOREVER), owned=lambda key: None)
    reach(cluster, key, "Running")
    pods.end(key)
    assert cluster.get(PODS, key.name, namespace) is None
    cluster.wait(lambda: cluster.get(SECRETS, key.name, namespace) is None, timeout_s=300, what="the Secret to go")


def test_a_pod_that_is_ending_is_waited_for_before_a_new_one_may_come(cluster, namespace, request_of):
    pods = Pods(cluster, quiet)
    key = pods.create(request_of(1, WAIT_FOREVER), owned=lambda key: None)
    reach(cluster, key, "Running")
    cluster.delete(PODS, key.name, namespace)
    assert pods.find(namespace, LABELS) is None
    assert cluster.get(PODS, key.name, namespace) is None


def test_of_two_pods_the_newer_goes_on_and_the_older_is_ended(cluster, namespace, request_of):
    pods = Pods(cluster, quiet)
    older = pods.create(request_of(1, WAIT_FOREVER), owned=lambda key: None)
    reach(cluster, older, "Running")
    time.sleep(1.1)  # creation times have whole seconds
    newer = pods.create(request_of(2, WAIT_FOREVER), owned=lambda key: None)
    assert pods.find(namespace, LABELS) == newer
    assert cluster.get(PODS, older.name, namespace) is None
    pods.end(newer)


def test_a_secret_that_cannot_be_made_leaves_no_pod_behind(cluster, namespace, request_of):
    request = request_of(1, WAIT_FOREVER)
    taken = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": request.secret_name, "namespace": namespace}}
    cluster.create(SECRETS, taken)
    pods = Pods(cluster, quiet)
    from mtv.model.errors import TemporaryError

    with pytest.raises(TemporaryError, match=request.secret_name):
        pods.create(request, owned=lambda key: None)
    assert cluster.find(PODS, namespace, LABELS) == []


def test_another_pod_of_the_same_name_is_not_taken_for_ours(cluster, namespace, request_of):
    pods = Pods(cluster, quiet)
    key = pods.create(request_of(1, WAIT_FOREVER), owned=lambda key: None)
    stranger = PodKey(namespace=key.namespace, name=key.name, uid="another")
    assert pods.read(stranger) is None
    pods.end(stranger)
    assert pods.read(key) is not None
    pods.end(key)


@pytest.fixture
def blind_triggerer(connection, monkeypatch, tmp_path):
    """Make the triggerer's cluster a port where nobody listens, and its patience short."""
    from mtv.orchestration.pods import trigger

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: nobody else can answer
        kubeconfig = _document(connection)
        for entry in kubeconfig["clusters"]:
            entry["cluster"]["server"] = f"https://127.0.0.1:{taken.getsockname()[1]}"
        path = tmp_path / "kubeconfig"
        path.write_text(json.dumps(kubeconfig))
        airflow = {"conn_type": "kubernetes", "extra": {"kube_config_path": str(path)}}
        monkeypatch.setenv("AIRFLOW_CONN_LAB", json.dumps(airflow))
        monkeypatch.setattr(trigger, "SILENCE_LIMIT_S", 0)
        yield


def _document(connection: Connection) -> dict:
    from ruamel.yaml import YAML

    return YAML(typ="safe").load(Path(connection.extra["kube_config_path"]).read_text())


@pytest.mark.usefixtures("blind_triggerer")
def test_a_pod_that_lives_is_watched_on_when_the_triggerer_alone_cannot_see_it(
    cluster, connection, request_of, settings
):
    from airflow.sdk.exceptions import TaskDeferred

    from mtv.orchestration.pods.clients import forget
    from mtv.orchestration.pods.operator import MoverPodOperator
    from mtv.orchestration.pods.trigger import MoverPodTrigger
    from mtv.orchestration.runner import StepRunner

    async def event_of(watch: MoverPodTrigger) -> dict:
        try:
            return (await anext(watch.run())).payload
        finally:
            await forget("lab")

    pods = Pods(cluster, quiet)
    key = pods.create(request_of(1, WAIT_FOREVER), owned=lambda key: None)
    reach(cluster, key, "Running")
    watch = MoverPodTrigger(
        connection_id="lab", namespace=key.namespace, pod=key.name, uid=key.uid, run="r1", vm_id="vm-1",
        vm_name="web-1", step="transfer", poll_s=0.1,
    )  # fmt: skip
    runner = StepRunner(settings, SimpleNamespace(get=lambda conn_id: connection))
    operator = MoverPodOperator(task_id="transfer", step="transfer", vm_id="vm-1", runner=runner, poll_s=0.1)
    context = {"ti": SimpleNamespace(dag_id="mtv.p.w"), "run_id": "first"}

    with pytest.raises(TaskDeferred) as deferred:
        operator.execute_complete(context, asyncio.run(event_of(watch)))

    assert deferred.value.trigger.serialize() == watch.serialize()
    assert deferred.value.method_name == "execute_complete"
    assert "deletionTimestamp" not in pods.read(key)["metadata"]
    pods.end(key)


@pytest.fixture
def one_vm(settings, namespace, monkeypatch):
    """A run whose one VM is being copied, and a store that says at once when it is locked."""
    from mtv.model.evidence import VmPhase
    from mtv.model.plan import Plan, PlannedVm, Source, StorageTarget, Target, Wave
    from mtv.store import Store, database, default_dsn

    monkeypatch.setattr(database, "BUSY_TIMEOUT_MS", 100)
    plan = Plan(
        name="p",
        source=Source(connection="src"),
        target=Target(connection="lab", namespace=namespace),
        storage_map={"*": StorageTarget(storage_class="standard")},
        waves=(Wave(name="w", vms=(PlannedVm(id="web-1", name="web-1"),)),),
    )
    with Store.open(default_dsn(settings.state_folder)) as store:
        store.upgrade()
        run = store.start_run(
            plan_hash=store.put_plan(plan), plan_name="p", wave="w", dag_id="mtv.p.w", dag_run_id="first"
        )
        store.freeze_vms(run.id, ["web-1"])
        store.claim_vm("p", "web-1", run.id)
        store.advance("p", "web-1", run.id, VmPhase.TRANSFERRING)
        store.begin_step(run.id, "web-1", "transfer")
        context = {"ti": SimpleNamespace(dag_id="mtv.p.w"), "run_id": "first"}
        yield SimpleNamespace(store=store, run=run, context=context)


@contextmanager
def locked(settings):
    """Another process holds the write lock of the store's file."""
    with closing(sqlite3.connect(settings.state_folder / "store.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


def test_a_pod_stays_until_the_store_has_its_result_and_the_next_try_reads_it(
    cluster, connection, namespace, request_of, settings, one_vm
):
    from airflow.sdk.exceptions import AirflowException

    from mtv.kubevirt import labels
    from mtv.model.evidence import EvidenceKind
    from mtv.orchestration.pods.operator import MoverPodOperator
    from mtv.orchestration.runner import StepRunner

    result = {"ok": False, "failure": {"code": "read-error", "message": "block 7", "retryable": True}}
    wanted = labels.of_object(plan="p", wave="w", vm="web-1", run=one_vm.run.id, role=labels.Role.TRANSFER)
    request = request_of(1, f"printf '%s' '{json.dumps(result)}' > /dev/termination-log", wanted)
    pods = Pods(cluster, quiet)
    key = pods.create(request, owned=lambda key: None)
    reach(cluster, key, "Succeeded")
    runner = StepRunner(settings, SimpleNamespace(get=lambda conn_id: connection, store_dsn=lambda: ""))
    operator = MoverPodOperator(task_id="transfer", step="transfer", vm_id="web-1", runner=runner, poll_s=0.1)
    event = {
        "connection_id": "lab", "namespace": namespace, "pod": key.name, "uid": key.uid, "vm_name": "web-1",
        "run": one_vm.run.id, "vm_id": "web-1", "step": "transfer", "poll_s": 0.1,
    }  # fmt: skip

    with locked(settings), pytest.raises(AirflowException, match="StoreUnreachable"):
        operator.execute_complete(one_vm.context, event)
    assert pods.read(key)["status"]["phase"] == "Succeeded"
    assert one_vm.store.evidence(one_vm.run.id, "web-1", EvidenceKind.TRANSFER) == []

    with pytest.raises(AirflowException, match="read-error"):
        operator.execute(one_vm.context)
    (kept,) = one_vm.store.evidence(one_vm.run.id, "web-1", EvidenceKind.TRANSFER)
    assert kept.document["failure"]["message"] == "block 7"
    assert cluster.find(PODS, namespace) == [], "its pod is gone, and no second one was made"
