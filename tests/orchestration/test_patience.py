"""What the trigger of a pod makes of pods that do not start or do not end, however new the trigger itself is.

The API server is a stand-in that gives one pod; a real one cannot be told how old its pods are.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from mtv.model.transfer import Progress
from mtv.orchestration.pods import trigger as trigger_module
from mtv.orchestration.pods.clients import forget
from mtv.orchestration.pods.log import Told
from mtv.orchestration.pods.trigger import MoverPodTrigger

MINUTE = timedelta(minutes=1)


def ago(age: timedelta) -> str:
    return f"{datetime.now(UTC) - age:%Y-%m-%dT%H:%M:%SZ}"


def pod(phase: str, *, age: timedelta, deleted: timedelta | None = None) -> dict[str, Any]:
    metadata = {"name": "p", "namespace": "n", "uid": "u", "creationTimestamp": ago(age)}
    if deleted is not None:
        metadata["deletionTimestamp"] = ago(deleted)
    spec = {"containers": [{"name": "mover", "image": "i"}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": {"phase": phase}}


@pytest.fixture
def give(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[dict[str, Any]], None]]:
    """A cluster, by the connection `lab`, that has the given pod, and whose node hangs up on who asks for a log."""
    pods: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if "/log" in self.path:
                self.connection.close()
                return
            said = json.dumps(pods[-1]).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    kubeconfig = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    }
    path = tmp_path / "kubeconfig"
    path.write_text(json.dumps(kubeconfig))
    path.chmod(0o600)
    airflow = {"conn_type": "kubernetes", "extra": {"kube_config_path": str(path)}}
    monkeypatch.setenv("AIRFLOW_CONN_LAB", json.dumps(airflow))
    yield pods.append
    server.shutdown()
    thread.join()
    server.server_close()


def watch() -> MoverPodTrigger:
    """A trigger that has begun just now, as after a restart of the triggerer."""
    return MoverPodTrigger(
        connection_id="lab", namespace="n", pod="p", uid="u", run="r", vm_id="vm-1", vm_name="web-1", step="transfer",
        poll_s=0.01,
    )  # fmt: skip


async def look() -> bool:
    try:
        return await watch()._look()
    finally:
        await forget("lab")


@pytest.mark.parametrize(
    ("phase", "age", "deleted", "is_over"),
    [
        pytest.param("Pending", 14 * MINUTE, None, False, id="still-starting"),
        pytest.param("Pending", 16 * MINUTE, None, True, id="does-not-start"),
        pytest.param("Running", timedelta(days=13), None, False, id="a-long-copy"),
        pytest.param("Running", timedelta(days=15), None, True, id="does-not-end"),
        pytest.param("Running", 60 * MINUTE, timedelta(seconds=5), False, id="is-ending"),
        pytest.param("Running", 60 * MINUTE, 5 * MINUTE, True, id="its-node-is-gone"),
        pytest.param("Succeeded", 60 * MINUTE, None, True, id="ended-on-a-node-that-gives-no-log"),
    ],
)
def test_a_triggerer_that_has_just_been_restarted_counts_from_the_pods_own_age(give, phase, age, deleted, is_over):
    give(pod(phase, age=age, deleted=deleted))
    assert asyncio.run(look()) == is_over


def test_a_client_that_another_trigger_has_closed_costs_a_look_and_not_the_watch(give, monkeypatch):
    give(pod("Succeeded", age=MINUTE))
    looks = []

    async def closed_at_first(self: MoverPodTrigger) -> bool:
        looks.append(self)
        if len(looks) == 1:
            raise RuntimeError("Session is closed")
        return True

    monkeypatch.setattr(MoverPodTrigger, "_look", closed_at_first)

    async def event() -> dict[str, Any]:
        return (await anext(watch().run())).payload

    assert asyncio.run(event())["pod"] == "p"
    assert len(looks) == 2


def test_progress_that_no_store_can_keep_does_not_end_the_watch(monkeypatch, capsys):
    async def full(call: object) -> None:
        raise OperationalError("INSERT", {}, Exception("database or disk is full"))

    monkeypatch.setattr(trigger_module, "read_store", full)
    asyncio.run(watch()._pass_on(Told(progress=(Progress(disk="d0"),))))
    assert "progress is not kept: OperationalError" in capsys.readouterr().out
