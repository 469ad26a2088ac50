"""Clients of the metrics page that mean no good, and what a killed mover leaves: neither touches the copy."""

from __future__ import annotations

import contextlib
import socket
import threading
import urllib.request
from pathlib import Path

import pytest

from mover.metrics import _MOST_CLIENTS, MetricsServer, metrics_text
from mtv.model.errors import MtvError
from mtv.model.transfer import Progress
from tests.mover import moving

READINGS = [Progress(disk="0", phase="copy", bytes_done=1, bytes_total=2, rate_bytes_per_s=0.5, eta_s=2.0)]


def test_clients_that_hold_on_take_few_threads_and_descriptors_and_the_page_comes_back_when_they_go() -> None:
    before = threading.active_count()
    with MetricsServer("0", lambda: READINGS) as server, contextlib.ExitStack() as held:
        clients = [
            held.enter_context(socket.create_connection(server.address[:2], timeout=60))
            for _ in range(2 * _MOST_CLIENTS)
        ]
        for client in clients[_MOST_CLIENTS:]:
            assert client.recv(1) == b"", "let go at once"
        assert threading.active_count() <= before + 1 + _MOST_CLIENTS
        held.close()
        moving.wait_for(lambda: answers(server), "the page")


def answers(server: MetricsServer) -> bool:
    host, port = server.address[:2]
    try:
        with urllib.request.urlopen(f"http://{host}:{port}/metrics", timeout=300) as answer:
            assert "Python" not in answer.headers["Server"]
            return bool(answer.read().decode() == metrics_text(READINGS))
    except OSError:
        return False


def test_the_socket_of_a_killed_mover_is_taken_over_and_that_of_a_living_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "m"
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))
    assert path.is_socket()
    with MetricsServer(str(path), lambda: READINGS):
        with pytest.raises(MtvError) as refused:
            MetricsServer(str(path), lambda: READINGS)
        assert refused.value.code.startswith("metrics")
        assert path.is_socket()
    assert not path.exists()


def test_what_is_no_socket_is_never_removed_for_one(tmp_path: Path) -> None:
    (tmp_path / "m").write_text("something of value")
    with pytest.raises(MtvError):
        MetricsServer(str(tmp_path / "m"), lambda: READINGS)
    assert (tmp_path / "m").read_text() == "something of value"
