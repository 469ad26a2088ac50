"""A thin engine: logins and image transfers, in the words of oVirt's own SDK, in front of the real imageio daemon.

Real: requests are read and answers written by ovirtsdk4; tickets are put into the daemon. Stand-in: everything else of
an engine. A transfer's disk is whatever NBD server listens on the socket that the disk was given.
"""

from __future__ import annotations

import json
import secrets
import ssl
import threading
import urllib.parse
import uuid
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

# The SDK's readers and writers register themselves when they are imported.
import ovirtsdk4.readers
import ovirtsdk4.writers  # noqa: F401
from ovirtsdk4 import types
from ovirtsdk4.reader import Reader
from ovirtsdk4.writer import Writer

from lab.cluster.pki import Authority
from lab.ovirt.imageio import ImageioDaemon

API = "/ovirt-engine/api"
USER = "admin@internal"
_TOKEN_URL = "/ovirt-engine/sso/oauth/token"  # noqa: S105 - an address
_LOGOUT_URL = "/ovirt-engine/services/sso-logout"
_Phase = types.ImageTransferPhase


class LabDisk(NamedTuple):
    """A disk of the engine: its size and the Unix socket of the NBD server that serves it."""

    size_bytes: int
    nbd_socket: Path


class ThinEngine:
    """An engine that runs in a thread of this process. Its fields may be changed while it runs."""

    def __init__(self, authority: Authority, imageio: ImageioDaemon, password: str) -> None:
        self.imageio = imageio
        self.disks: dict[str, LabDisk] = {}
        self.ticket_timeout_s = 300
        self.locked: set[str] = set()
        """Disks that a transfer cannot be made of now."""
        self.calls: Counter[str] = Counter()
        """How often each action was asked for: login, create, extend, resume, finalize, cancel."""
        self.transfers: dict[str, Any] = {}
        self.password = password
        self.lock = threading.Lock()
        self._tokens: set[str] = set()
        pair = authority.issue("engine", common_name="engine", hosts=["127.0.0.1", "localhost"])
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair.certificate, pair.key)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="engine", daemon=True)

    def start(self) -> None:
        """Answer from now on."""
        self._thread.start()

    def stop(self) -> None:
        """End it."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    # -- what tests do to it

    def forget_logins(self) -> None:
        """Every token has expired."""
        self._tokens.clear()

    def expire_tickets(self) -> None:
        """Every ticket has expired; the transfers go on."""
        for transfer in list(self.transfers):
            self.imageio.extend_ticket(transfer, 0)

    def end_transfers(self, phase: Any) -> None:
        """The engine itself pauses or cancels all transfers that are under way."""
        with self.lock:
            for transfer in self.transfers.values():
                if transfer.phase == _Phase.TRANSFERRING:
                    self.imageio.remove_ticket(transfer.id)
                    transfer.phase = phase

    # -- what it does by itself

    def log_in(self, user: str, password: str) -> str:
        """A token, or "" if the password is wrong."""
        self.calls["login"] += 1
        if user != USER or password != self.password:
            return ""
        token = secrets.token_hex(16)
        self._tokens.add(token)
        return token

    def knows(self, token: str) -> bool:
        """Whether the token is valid."""
        return token in self._tokens

    def log_out(self, token: str) -> None:
        """The token is not needed any more."""
        self._tokens.discard(token)

    def create(self, wanted: Any) -> Any:
        """A new transfer, initializing; None if the disk is locked, by a test or by another transfer."""
        disk = (wanted.disk or wanted.snapshot or wanted.backup).id
        if disk in self.locked or any(self._is_of(other, disk) for other in self.transfers.values()):
            return None
        transfer = types.ImageTransfer(
            id=str(uuid.uuid4()),
            disk=types.Disk(id=disk),
            phase=_Phase.INITIALIZING,
            direction=wanted.direction,
            format=wanted.format,
            inactivity_timeout=wanted.inactivity_timeout,
            timeout_policy=wanted.timeout_policy,
        )
        transfer.transfer_url = self.imageio.url_of(transfer.id)
        transfer.proxy_url = transfer.transfer_url.replace("127.0.0.1", "localhost")  # the same daemon, by another name
        self.transfers[transfer.id] = transfer
        return transfer

    def serve(self, transfer: Any) -> None:
        """Put the ticket onto the host."""
        disk = self.disks[transfer.disk.id]
        self.imageio.add_ticket(transfer.id, disk.size_bytes, disk.nbd_socket, timeout_s=self.ticket_timeout_s)
        transfer.phase = _Phase.TRANSFERRING

    def act(self, transfer: Any, action: str) -> bool:
        """Whether the action is possible in the transfer's phase; if so it is done."""
        if action == "extend" and transfer.phase == _Phase.TRANSFERRING:
            return self.imageio.extend_ticket(transfer.id, self.ticket_timeout_s)
        if action == "resume" and transfer.phase in (_Phase.PAUSED_SYSTEM, _Phase.PAUSED_USER):
            transfer.phase = _Phase.RESUMING
            return True
        ends = {"finalize": _Phase.FINISHED_SUCCESS, "cancel": _Phase.CANCELLED}
        if action in ends and self._is_of(transfer, transfer.disk.id):
            self.imageio.remove_ticket(transfer.id)
            transfer.phase = ends[action]
            return True
        return False

    @staticmethod
    def _is_of(transfer: Any, disk: str) -> bool:
        ended = (_Phase.FINISHED_SUCCESS, _Phase.FINISHED_FAILURE, _Phase.CANCELLED)
        return bool(transfer.disk.id == disk and transfer.phase not in ended)


def _handler(engine: ThinEngine) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            self._answer()

        def log_message(self, *_: Any) -> None:
            """Nobody reads it."""

        def _answer(self) -> None:
            path = urllib.parse.urlsplit(self.path).path
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
            token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
            with engine.lock:
                if path in (_TOKEN_URL, _LOGOUT_URL):
                    self._session(path, urllib.parse.parse_qs(body))
                elif not engine.knows(token):
                    self._fault(401, "Unauthorized", "the token is not valid")
                elif not path.startswith(f"{API}/imagetransfers"):
                    self._fault(404, "Not Found", path)
                else:
                    self._transfers(path.removeprefix(f"{API}/imagetransfers").strip("/").split("/"), body)

        def _session(self, path: str, form: dict[str, list[str]]) -> None:
            if path == _LOGOUT_URL:
                engine.log_out(form["token"][0])
                self._send(200, b"{}", "application/json")
            elif token := engine.log_in(form["username"][0], form["password"][0]):
                self._send(200, json.dumps({"access_token": token}).encode(), "application/json")
            else:
                said = {"error": "Cannot authenticate user: bad credentials.", "error_code": "access_denied"}
                self._send(400, json.dumps(said).encode(), "application/json")

        def _transfers(self, words: list[str], body: str) -> None:
            if words == [""] and self.command == "POST":
                engine.calls["create"] += 1
                if made := engine.create(Reader.read(body)):
                    self._object(made, 201)
                else:
                    self._fault(409, "Operation Failed", "[Cannot transfer Virtual Disk: the disk is locked.]")
            elif (transfer := engine.transfers.get(words[0])) is None:
                self._fault(404, "Not Found", words[0])
            elif len(words) == 1:
                self._object(transfer)
                if transfer.phase in (_Phase.INITIALIZING, _Phase.RESUMING):
                    engine.serve(transfer)  # the next look finds it serving
            else:
                engine.calls[words[1]] += 1
                if engine.act(transfer, words[1]):
                    self._object(types.Action(status="complete"))
                else:
                    self._fault(409, "Operation Failed", f"[Cannot {words[1]} in phase {transfer.phase}.]")

        def _object(self, found: Any, status: int = 200) -> None:
            self._send(status, Writer.write(found).encode(), "application/xml")

        def _fault(self, status: int, reason: str, detail: str) -> None:
            fault = types.Fault(reason=reason, detail=detail)
            self._send(status, Writer.write(fault, root="fault").encode(), "application/xml")

        def _send(self, status: int, body: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    return Handler
