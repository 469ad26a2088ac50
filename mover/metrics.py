"""Progress for Prometheus: a text page at `/metrics`, on loopback, an address that was asked for, or a Unix socket."""

from __future__ import annotations

import http.server
import socket
import socketserver
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mover.failure import storage_error
from mtv.model.errors import PermanentError
from mtv.model.transfer import Progress

_READ_TIMEOUT_S = 10.0
_MOST_CLIENTS = 8
"""Served at once; each takes a thread and a descriptor, which the copy needs more."""
_GAUGES: tuple[tuple[str, str, Callable[[Progress], float | None]], ...] = (
    ("mtv_mover_bytes_done", "Bytes of the disk's present phase that are done.", lambda reading: reading.bytes_done),
    ("mtv_mover_bytes_total", "Bytes of the disk's present phase.", lambda reading: reading.bytes_total),
    ("mtv_mover_rate_bytes_per_second", "Rate over 30 s.", lambda reading: reading.rate_bytes_per_s),
    ("mtv_mover_eta_seconds", "Time until the phase ends, at this rate.", lambda reading: reading.eta_s),
)


def metrics_text(readings: list[Progress]) -> str:
    """The page, in Prometheus' text format 0.0.4."""
    lines: list[str] = []
    for name, meaning, value_of in _GAUGES:
        lines += [f"# HELP {name} {meaning}", f"# TYPE {name} gauge"]
        for reading in readings:
            value = value_of(reading)
            if value is not None:
                lines.append(f'{name}{{disk="{_label(reading.disk)}"}} {value}')
    lines += ["# HELP mtv_mover_phase 1 for the phase that a disk is in.", "# TYPE mtv_mover_phase gauge"]
    lines += [f'mtv_mover_phase{{disk="{_label(reading.disk)}",phase="{reading.phase}"}} 1' for reading in readings]
    return "\n".join(lines) + "\n"


class MetricsServer:
    """Serves `read()` while the block runs. `where` is a port (loopback), `HOST:PORT`, or a path for a Unix socket.

    Raises `PermanentError` (code metrics-…) if it cannot listen there.
    """

    def __init__(self, where: str, read: Callable[[], list[Progress]]) -> None:
        try:
            self._server = _listen(where, _handler(read))
        except OSError as error:
            raise storage_error(error, where="metrics", what=f"listen on {where}") from error
        except (ValueError, OverflowError) as error:
            raise PermanentError(
                f"{where!r} is not a place to listen on", cure="give PORT, HOST:PORT or a socket's path", code="metrics"
            ) from error
        self.address = self._server.server_address
        self._path = Path(where) if "/" in where else None
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True)

    def __enter__(self) -> MetricsServer:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        if self._path:
            self._path.unlink(missing_ok=True)


class _FewClients(socketserver.ThreadingMixIn):
    """A thread for each client up to a number; who comes beyond that is let go at once."""

    daemon_threads = True
    request_queue_size = 32

    def __init__(self, where: Any, handler: type[http.server.BaseHTTPRequestHandler]) -> None:
        self._places = threading.BoundedSemaphore(_MOST_CLIENTS)
        super().__init__(where, handler)  # type: ignore[call-arg]

    def verify_request(self, _request: Any, _client: Any) -> bool:
        """Whether there is a place for one more."""
        return self._places.acquire(blocking=False)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve it in a thread."""
        try:
            super().process_request(request, client_address)
        except BaseException:  # no thread to be had
            self._places.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve it in this thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away, or was too slow, is not news; anything else is."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)  # type: ignore[misc]


class _UnixServer(_FewClients, socketserver.UnixStreamServer):
    pass


class _TcpServer(_FewClients, socketserver.TCPServer):
    allow_reuse_address = True


class _Tcp6Server(_TcpServer):
    address_family = socket.AF_INET6


def _listen(where: str, handler: type[http.server.BaseHTTPRequestHandler]) -> socketserver.BaseServer:
    if "/" in where:
        _clear_leftover(Path(where))
        return _UnixServer(where, handler)
    host, _, port = where.rpartition(":")
    host = host.strip("[]")
    kind = _Tcp6Server if ":" in host else _TcpServer
    return kind((host or "127.0.0.1", int(port)), handler)


def _clear_leftover(path: Path) -> None:
    """Remove the socket of a mover that was killed. One that somebody answers at stays, and cannot be listened on."""
    if not path.is_socket():
        return
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(_READ_TIMEOUT_S)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)


def _handler(read: Callable[[], list[Progress]]) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        timeout = _READ_TIMEOUT_S
        server_version = "mtv-mover"
        sys_version = ""

        def do_GET(self) -> None:
            if self.path.partition("?")[0] != "/metrics":
                self.send_error(http.HTTPStatus.NOT_FOUND)
                return
            page = metrics_text(read()).encode()
            self.send_response(http.HTTPStatus.OK)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, format: str, *arguments: object) -> None:
            """Scrapes are not news."""

    return Handler


def _label(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
