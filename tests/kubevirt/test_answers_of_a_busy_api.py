"""What the client makes of answers that a real API server gives only at a bad moment, in Kubernetes' own words."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from mtv.kubevirt import cluster as cluster_module
from mtv.kubevirt import labels, machines
from mtv.kubevirt.cluster import Cluster, Conflict
from mtv.kubevirt.resources import CLAIMS, SECRETS
from mtv.kubevirt.virtual_machine import virtual_machine
from mtv.model.errors import TemporaryError
from tests.kubevirt.test_cluster import connection, kubeconfig
from tests.kubevirt.values import source_vm, target_vm

CLAIM = {"metadata": {"name": "c", "namespace": "demo"}}
QUOTA = {
    "kind": "Status",
    "code": 409,
    "reason": "Conflict",
    "message": 'Operation cannot be fulfilled on resourcequotas "q": the object has been modified',
}
TAKEN = QUOTA | {"reason": "AlreadyExists", "message": 'persistentvolumeclaims "c" already exists'}


class Answers:
    """A server that gives the answers in turn, the last one for ever, and keeps what it was asked."""

    def __init__(self, *answers: dict[str, Any]) -> None:
        self.asked: list[tuple[str, str, str]] = []
        told = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                told.asked.append((self.command, self.path, self.headers["Accept"]))
                body = answers[min(len(told.asked), len(answers)) - 1]
                said = json.dumps(body).encode()
                self.send_response(body.get("code", 200))
                self.send_header("Content-Length", str(len(said)))
                self.end_headers()
                self.wfile.write(said)

            do_GET = do_POST = do_PATCH = answer

            def log_message(self, *_: object) -> None: ...

        self.server = HTTPServer(("127.0.0.1", 0), Handler)

    @contextmanager
    def cluster(self, folder: Path) -> Iterator[Cluster]:
        thread = threading.Thread(target=self.server.serve_forever)
        thread.start()
        try:
            with Cluster(connection(kubeconfig(folder, f"http://127.0.0.1:{self.server.server_port}"))) as cluster:
                yield cluster
        finally:
            self.server.shutdown()
            thread.join()
            self.server.server_close()


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_module, "_BUSY_PAUSES_S", (0, 0, 0))


def test_a_quota_that_others_count_in_at_the_same_moment_is_tried_again(tmp_path: Path) -> None:
    answers = Answers(QUOTA, QUOTA, CLAIM)
    with answers.cluster(tmp_path) as cluster:
        assert cluster.create(CLAIMS, CLAIM) == CLAIM
    assert len(answers.asked) == 3


def test_a_quota_that_stays_busy_is_worth_a_retry_and_no_taken_name(tmp_path: Path) -> None:
    vm = source_vm()
    machine = virtual_machine(vm, target_vm(vm, namespace="demo"))
    nothing = {"items": [], "metadata": {}}
    answers = Answers(nothing, QUOTA)
    with answers.cluster(tmp_path) as cluster, pytest.raises(TemporaryError, match="resourcequotas") as caught:
        machines.ensure(cluster, machine)
    assert not isinstance(caught.value, Conflict)
    assert [verb for verb, _, _ in answers.asked] == ["GET", "POST", "POST", "POST", "POST"]


def test_a_list_that_expired_between_two_pages_is_worth_a_retry(tmp_path: Path) -> None:
    page = {"items": [CLAIM], "metadata": {"continue": "more"}}
    expired = {"kind": "Status", "code": 410, "reason": "Expired", "message": "The provided continue parameter is old"}
    with Answers(page, expired).cluster(tmp_path) as cluster, pytest.raises(TemporaryError, match="continue parameter"):
        cluster.find(CLAIMS, "demo")


def test_a_taken_name_is_told_at_once(tmp_path: Path) -> None:
    answers = Answers(TAKEN)
    with answers.cluster(tmp_path) as cluster, pytest.raises(Conflict, match="already exists"):
        cluster.create(CLAIMS, CLAIM)
    assert len(answers.asked) == 1


def test_a_conflict_that_a_proxy_answers_in_its_own_words_is_tried_again(tmp_path: Path) -> None:
    answers = Answers({"code": 409}, CLAIM)
    with answers.cluster(tmp_path) as cluster:
        assert cluster.create(CLAIMS, CLAIM) == CLAIM


def test_clean_up_asks_for_names_alone_so_that_no_secret_is_read(tmp_path: Path) -> None:
    having = labels.of_vm("p", "v")
    answers = Answers({"items": None, "metadata": {}})
    with answers.cluster(tmp_path) as cluster:
        assert cluster.remove_labelled(SECRETS, "demo", having, timeout_s=1) == []
    ((verb, _, accept),) = answers.asked
    assert verb == "GET"
    assert "PartialObjectMetadataList" in accept


def test_a_load_balancer_that_closes_in_the_middle_of_tls_is_worth_a_retry(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        stop = threading.Event()

        def close_all() -> None:
            while not stop.is_set():
                taken, _ = listener.accept()
                taken.recv(1)
                taken.close()

        thread = threading.Thread(target=close_all)
        thread.start()
        try:
            with (
                Cluster(connection(kubeconfig(tmp_path, f"https://127.0.0.1:{listener.getsockname()[1]}"))) as cluster,
                pytest.raises(TemporaryError, match="read the version"),
            ):
                cluster.check()
        finally:
            stop.set()
            socket.create_connection(listener.getsockname()).close()
            thread.join()
