"""A real HTTPS server with ranges and the faults that servers have; an identity and an image service live on it too."""

from __future__ import annotations

import datetime
import ipaddress
import json
import re
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

IMAGE = "6f1c1e2a-image"
_RANGE = re.compile(r"bytes=(\d+)-(\d+)")


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"images {x509.random_serial_number():x}"[:60])])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder.mkdir(exist_ok=True)
    (folder / "ca.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "key.pem").write_bytes(secret)
    return folder / "ca.pem", folder / "key.pem"


class Web:
    """What the server serves, and how it misbehaves. Counts go down with each request for data that they spoil."""

    def __init__(self, disk: Path) -> None:
        self.content = disk.read_bytes()
        self.record: dict[str, Any] = {}
        self.etag = '"1"'
        self.password = "not-Secret-1"
        self.url = ""
        self.token = ""  # empty: no login is asked for
        self.uses_per_token = 0
        self.logins = 0
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.lock = threading.Lock()
        self.status: list[int] = []
        self.drop = self.truncate = self.shift = self.close_after = 0
        self.ignores_ranges = False
        self.flip_at = -1
        self.change_after = -1
        self.redirect_to = ""
        self._uses = 0

    def lets_in(self, headers: Any) -> bool:
        """Whether the token is the one that counts now; it wears out."""
        if not self.token:
            return True
        with self.lock:
            if self.token not in (
                headers.get("X-Auth-Token"),
                headers.get("Authorization", "").removeprefix("Bearer "),
            ):
                return False
            self._uses += 1
            if self.uses_per_token and self._uses > self.uses_per_token:
                self.new_token()
                return False
            return True

    def new_token(self) -> str:
        """The old one is worth nothing from now on."""
        self.logins += 1
        self._uses = 0
        self.token = f"token-{self.logins}"
        return self.token

    def spoils(self, fault: str) -> bool:
        """Whether this request is to be spoiled so."""
        with self.lock:
            left = getattr(self, fault)
            setattr(self, fault, max(left - 1, 0))
            return bool(left)


@contextmanager
def serve(disk: Path, folder: Path, *, tls: bool = True) -> Iterator[Web]:
    """A server for one image, with its certificate as `folder/ca.pem`; it ends with the block."""
    web = Web(disk)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"web": web}))
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*make_certificate(folder))
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    web.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield web
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    web: Web
    timeout = 20

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is printed."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["auth"]["identity"]
        method = asked["methods"][0]
        secret = asked["password"]["user"]["password"] if method == "password" else asked[method]["secret"]
        if self.path != "/identity/v3/auth/tokens" or secret != self.web.password:
            self._answer(401, b"{}")
            return
        with self.web.lock:
            token = self.web.new_token()
        self._answer(201, b"{}", {"X-Subject-Token": token})

    def do_GET(self) -> None:
        web = self.web
        web.requests.append((self.path, dict(self.headers)))
        if web.status:
            self._answer(web.status.pop(0), b"busy")
        elif web.redirect_to:
            self._answer(302, b"", {"Location": web.redirect_to})
        elif not web.lets_in(self.headers):
            self._answer(401, b"who are you")
        elif self.path == f"/image/v2/images/{IMAGE}":
            self._answer(200, json.dumps(web.record).encode())
        else:
            self._data()

    def _data(self) -> None:
        web = self.web
        match = _RANGE.fullmatch(self.headers.get("Range", ""))
        if web.ignores_ranges or not match:
            self._answer(200, web.content)
            return
        if web.change_after >= 0 and len(web.requests) > web.change_after:
            web.etag = '"2"'
        first, last = int(match[1]), min(int(match[2]), len(web.content) - 1)
        body = bytearray(web.content[first : last + 1])
        if first <= web.flip_at <= last:
            body[web.flip_at - first] ^= 0x10
        shift = 512 if web.spoils("shift") else 0
        headers = {
            "Content-Range": f"bytes {first + shift}-{last + shift}/{len(web.content)}",
            "ETag": web.etag,
            "Last-Modified": "Mon, 02 Feb 2026 10:00:00 GMT",
        }
        if web.spoils("close_after"):
            headers["Connection"] = "close"
        cut = web.spoils("truncate")
        dropped = web.spoils("drop")
        self._answer(
            206,
            bytes(body[: len(body) // 2]) if cut or dropped else bytes(body),
            headers,
            of=len(body) if dropped else 0,
        )
        if dropped:
            self.close_connection = True

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None, *, of: int = 0) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(of or len(body)))
        self.end_headers()
        self.wfile.write(body)
