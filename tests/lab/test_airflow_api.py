"""The lab's client of Airflow, where the API server is too busy to answer each time."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest

from lab.airflow.api import SILENT, AirflowApi
from lab.process import free_port
from mtv.model.errors import PermanentError, TemporaryError


class _Busy(BaseHTTPRequestHandler):
    """Hangs up on the first requests, then answers the rest."""

    hang_ups: ClassVar[int]
    status: ClassVar[int] = 200
    asked: ClassVar[int]

    def do_GET(self) -> None:
        kind = type(self)
        kind.asked += 1
        if kind.asked <= kind.hang_ups:
            self.close_connection = True
            return
        body = json.dumps({"state": "success", "dag_id": "d"}).encode()
        self.send_response(kind.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing to say."""


@pytest.fixture
def busy() -> Iterator[tuple[type[_Busy], AirflowApi]]:
    class Handler(_Busy):
        hang_ups = 2
        asked = 0

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        serving.start()
        try:
            yield Handler, AirflowApi(f"http://127.0.0.1:{server.server_port}")
        finally:
            server.shutdown()
            serving.join()


def test_a_run_is_silent_until_the_server_answers(busy: tuple[type[_Busy], AirflowApi]) -> None:
    _, api = busy
    assert [api.run_state("d", "r") for _ in range(3)] == [SILENT, SILENT, "success"]


def test_waiting_bears_a_server_that_hangs_up(busy: tuple[type[_Busy], AirflowApi]) -> None:
    handler, api = busy
    assert api.wait_for_run("d", "r", timeout_s=300, interval_s=0) == "success"
    handler.asked = 0
    assert api.wait_for_dag("d", timeout_s=300)["dag_id"] == "d"
    assert handler.asked == 3


def test_a_refusal_is_not_waited_out(busy: tuple[type[_Busy], AirflowApi]) -> None:
    handler, api = busy
    handler.hang_ups, handler.status = 0, 403
    for ask in (api.wait_for_run, lambda dag_id, _, *, timeout_s: api.wait_for_dag(dag_id, timeout_s=timeout_s)):
        with pytest.raises(PermanentError, match="Airflow answered 403"):
            ask("d", "r", timeout_s=60)


def test_where_nobody_listens_waiting_ends_with_its_deadline() -> None:
    api = AirflowApi(f"http://127.0.0.1:{free_port()}")
    with pytest.raises(TemporaryError, match="does not answer"):
        api.wait_for_run("d", "r", timeout_s=0)
