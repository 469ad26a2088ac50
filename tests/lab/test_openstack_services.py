"""How the lab's OpenStack is waited for, and how TLS ends before it; its services have a lane of their own."""

from __future__ import annotations

import http.client
import ssl
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from lab.cluster.pki import Authority
from lab.openstack import services
from lab.process import free_port, start_daemon, stop_daemon, wait_until
from lab.state import REPO
from mtv.model.errors import PermanentError, TemporaryError

WORKERS = ("cinder-scheduler", "cinder-volume", "nova-conductor", "nova-scheduler", "nova-compute")


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[Path]:
    """A folder in which all workers run, and have said something."""
    pidfiles = [tmp_path / f"{name}.pid" for name in WORKERS]
    try:
        for pidfile in pidfiles:
            log = pidfile.with_suffix(".log")
            log.write_text(f"last words of {pidfile.stem}\n")
            start_daemon(["sleep", "600"], log=log, pidfile=pidfile)
        yield tmp_path
    finally:
        for pidfile in pidfiles:
            stop_daemon(pidfile)


def test_the_wait_for_workers_goes_on_while_something_comes(workers: Path) -> None:
    answers = [["cinder-volume gold", "nova-compute"], ["nova-compute"], []]
    services.wait_for_workers(workers, lambda: answers.pop(0), lambda: "", pause_s=0)
    assert answers == []


def test_a_wait_in_vain_says_what_is_missing_with_its_log_and_the_brokers_alarms(
    workers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "WORKER_TIMEOUT_S", 0)
    with pytest.raises(TemporaryError) as caught:
        services.wait_for_workers(workers, lambda: ["cinder-volume gold"], lambda: "memory alarm set", pause_s=0)
    told = caught.value.message
    assert "cinder-volume gold" in told
    assert "memory alarm set" in told
    assert "last words of cinder-volume" in told
    assert "nova" not in told


def test_a_worker_that_has_ended_is_not_waited_for(workers: Path) -> None:
    stop_daemon(workers / "nova-scheduler.pid")
    with pytest.raises(PermanentError, match="nova-scheduler has ended: last words of nova-scheduler"):
        services.wait_for_workers(workers, lambda: ["a host in nova's cell"], lambda: "", pause_s=0)


class Echo(BaseHTTPRequestHandler):
    """Gives back what it gets, and the address that it was asked by."""

    def do_GET(self) -> None:
        self.send_response(401)
        self.end_headers()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("X-Host", self.headers["Host"])
        self.end_headers()
        self.wfile.write(body)  # no length: the connection's end is the answer's end

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


def test_tls_is_ended_before_a_plain_service_and_large_bodies_come_through_whole(tmp_path: Path) -> None:
    authority = Authority.create(tmp_path / "pki")
    pair = authority.issue("services", common_name="openstack", hosts=["127.0.0.1"])
    port, pidfile, log = free_port(), tmp_path / "tls.pid", tmp_path / "tls.log"
    body = bytes(range(256)) * (3 << 12)
    with ThreadingHTTPServer(("127.0.0.1", 0), Echo) as plain:
        threading.Thread(target=plain.serve_forever, args=(0.05,), daemon=True).start()
        ports = f"{port}:{plain.server_address[1]}"
        argv = [sys.executable, "-m", "lab.openstack.tls", pair.certificate, pair.key, ports]
        start_daemon(argv, log=log, pidfile=pidfile, cwd=REPO)
        try:
            url = f"https://127.0.0.1:{port}"
            wait_until(lambda: services.answers(url, authority.certificate), timeout_s=300, what="TLS")
            assert not services.answers(url), "an authority that nobody knows was trusted"
            context = ssl.create_default_context(cafile=str(authority.certificate))
            for _ in range(2):
                connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=60, context=context)
                connection.request("POST", "/", body)
                answer = connection.getresponse()
                assert answer.headers["X-Host"] == f"127.0.0.1:{port}"
                assert answer.read() == body
                connection.close()
        finally:
            stop_daemon(pidfile)
            plain.shutdown()
    assert log.read_text() == ""
