"""The engine's REST API: one request to what it asks for, and the answer in oVirt's XML."""

from __future__ import annotations

import json
import ssl
import urllib.parse
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

# The SDK's readers and writers register themselves when they are imported.
import ovirtsdk4.readers
import ovirtsdk4.writers  # noqa: F401
from ovirtsdk4 import types
from ovirtsdk4.reader import Reader
from ovirtsdk4.writer import Writer

from lab.ovirt.estate import COLLECTIONS, PARTS, address
from lab.ovirt.faults import Deed
from lab.ovirt.query import chosen, follow_paths, followed

if TYPE_CHECKING:
    from lab.ovirt.engine import ThinEngine

API = "/ovirt-engine/api"
_TOKEN_URL = "/ovirt-engine/sso/oauth/token"  # noqa: S105 - an address
_LOGOUT_URL = "/ovirt-engine/services/sso-logout"
_COLLECTIONS = {address(name): name for name in COLLECTIONS}
_PARTS = {address(name): name for name in PARTS}
_ROOTS = {"numa_nodes": "vm_numa_nodes"}  # an engine calls them so where they are a list of their own
_STATUS = {
    Deed.FORBID: (403, "Forbidden"),
    Deed.CONFLICT: (409, "Operation Failed"),
    Deed.BUSY: (503, "Service Unavailable"),
    Deed.BREAK: (500, "Server Error"),
}


def handler(engine: ThinEngine) -> type[BaseHTTPRequestHandler]:
    """The class that answers requests to this engine."""

    class Handler(_Handler):
        pass

    Handler.engine = engine
    return Handler


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are two writes; the client would acknowledge the first late
    engine: ThinEngine
    _cut = False

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def log_message(self, *_: Any) -> None:
        """Nobody reads it."""

    def handle(self) -> None:
        try:
            super().handle()
        except (ssl.SSLError, ConnectionError):
            self.close_connection = True  # a client that broke its handshake or went away

    def _answer(self) -> None:
        url = urllib.parse.urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        with self.engine.lock:
            if url.path in (_TOKEN_URL, _LOGOUT_URL):
                self._session(url.path, urllib.parse.parse_qs(body))
                return
            below = url.path.removeprefix(API).strip("/")
            self.engine.requests.append(f"{self.command} {below}?{urllib.parse.unquote(url.query)}")
            deed = self.engine.faults.next(below)
            if deed is Deed.DROP:
                self.close_connection = True
                return
            if deed is Deed.EXPIRE:
                self.engine.logins.forget()
            self._cut = deed is Deed.CUT
            query = urllib.parse.parse_qs(url.query)
            if not self.engine.logins.take((self.headers.get("Authorization") or "").removeprefix("Bearer ")):
                self._fault(401, "Unauthorized", "the token is not valid")
            elif deed in _STATUS:
                self._fault(*_STATUS[deed], "by a test's wish")
            elif not url.path.startswith(API):
                self._fault(404, "Not Found", url.path)
            elif self.engine.faults.forbids(below, follow_paths(query)):
                self._fault(403, "Forbidden", "query execution failed due to insufficient permissions.")
            else:
                self._route(below.split("/"), query, body)

    def _session(self, path: str, form: dict[str, list[str]]) -> None:
        engine = self.engine
        if path == _LOGOUT_URL:
            engine.logins.log_out(form["token"][0])
            self._send(200, b"{}", "application/json")
            return
        engine.calls["login"] += 1
        token = engine.logins.log_in(form["username"][0], form["password"][0], engine.password)
        if token:
            self._send(200, json.dumps({"access_token": token}).encode(), "application/json")
        else:
            said = {"error": "Cannot authenticate user: bad credentials.", "error_code": "access_denied"}
            self._send(400, json.dumps(said).encode(), "application/json")

    def _route(self, words: list[str], query: dict[str, list[str]], body: str) -> None:
        if words == [""]:
            self._object(self._about(), root="api")
        elif words[0] == "imagetransfers":
            self._transfers(words[1:], body)
        elif words[0] in _COLLECTIONS:
            self._collection(_COLLECTIONS[words[0]], words[1:], query)
        else:
            self._fault(404, "Not Found", "/".join(words))

    def _about(self) -> Any:
        vms = self.engine.estate.objects["vms"].values()
        return types.Api(
            product_info=types.ProductInfo(
                name="oVirt Engine",
                version=types.Version(major=4, minor=5, build=6, revision=0, full_version="4.5.6-1.el9"),
            ),
            summary=types.ApiSummary(
                vms=types.ApiSummaryItem(total=len(vms), active=sum(vm.status != types.VmStatus.DOWN for vm in vms))
            ),
        )

    def _collection(self, name: str, words: list[str], query: dict[str, list[str]]) -> None:
        estate = self.engine.estate
        objects = estate.objects[name]
        if not words:
            paths = follow_paths(query)
            told = [followed(estate, self._looked_at(each), paths) for each in chosen(objects.values(), query)]
            self._object(told, root=name)
        elif words[0] not in objects:
            self._fault(404, "Not Found", f"Entity not found: {words[0]}")
        elif len(words) == 1:
            self._object(followed(estate, self._looked_at(objects[words[0]]), follow_paths(query)))
        elif self.command == "GET" and name == "vms" and words[1] in _PARTS:
            part = _PARTS[words[1]]
            told = [followed(estate, each, follow_paths(query)) for each in estate.parts[words[0]][part]]
            self._object(told, root=_ROOTS.get(part, part))
        elif self.command == "POST" and name == "vms" and words[1] in ("start", "shutdown", "stop"):
            self.engine.calls[words[1]] += 1
            refused = self.engine.power.act(objects[words[0]], words[1])
            if refused:
                self._fault(409, "Operation Failed", f"[{refused}]")
            else:
                self._object(types.Action(status="complete"))
        else:
            self._fault(404, "Not Found", "/".join(words))

    def _looked_at(self, found: Any) -> Any:
        if isinstance(found, types.Vm):
            self.engine.power.look(found)
        return found

    def _transfers(self, words: list[str], body: str) -> None:
        engine = self.engine
        if not words and self.command == "POST":
            engine.calls["create"] += 1
            if made := engine.image_transfers.create(Reader.read(body)):
                self._object(made, status=201)
            else:
                self._fault(409, "Operation Failed", "[Cannot transfer Virtual Disk: the disk is locked.]")
        elif not words or (transfer := engine.transfers.get(words[0])) is None:
            self._fault(404, "Not Found", "/".join(words))
        elif len(words) == 1:
            self._object(transfer)
            engine.image_transfers.serve_if_due(transfer, engine.ticket_timeout_s)  # the next look finds it serving
        else:
            engine.calls[words[1]] += 1
            if engine.image_transfers.act(transfer, words[1], engine.ticket_timeout_s):
                self._object(types.Action(status="complete"))
            else:
                self._fault(409, "Operation Failed", f"[Cannot {words[1]} in phase {transfer.phase}.]")

    def _object(self, found: Any, *, root: str | None = None, status: int = 200) -> None:
        self._send(status, Writer.write(found, root=root).encode(), "application/xml")

    def _fault(self, status: int, reason: str, detail: str) -> None:
        fault = types.Fault(reason=reason, detail=detail)
        self._send(status, Writer.write(fault, root="fault").encode(), "application/xml")

    def _send(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self._cut:
            self._cut, self.close_connection = False, True
            body = body[: len(body) // 2]
        self.wfile.write(body)
