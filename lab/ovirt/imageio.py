"""The real ovirt-imageio daemon, built from its source package into the lab's cache and run as a process of its own.

It has no wheel: gcc and Python's headers build it in a few seconds, both of which the Python requirements need anyway.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from lab.cache import cached
from lab.cluster.pki import Authority
from lab.process import free_port, is_alive, start_daemon, stop_daemon, tail, wait_until
from mtv.model.errors import PermanentError

PACKAGE = "ovirt-imageio==2.5.1"
_BUILD_TIMEOUT_S = 600
_CONFIGURATION = """\
[daemon]
systemd_enable = false
drop_privileges = false
run_dir = {folder}
[tls]
key_file = {key}
cert_file = {certificate}
ca_file = {authority}
[remote]
host = 127.0.0.1
port = {port}
[local]
enable = false
[control]
transport = unix
socket = {folder}/control.sock
remove_timeout = 10
[handlers]
keys = stderr
[logger_root]
handlers = stderr
"""


def imageio() -> Path:
    """The folder that holds the package; built at the first call. PermanentError with pip's own words if it fails."""

    def install(folder: Path) -> None:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), PACKAGE]
        done = subprocess.run(command, capture_output=True, text=True, timeout=_BUILD_TIMEOUT_S, check=False)
        if done.returncode:
            raise PermanentError(
                f"{PACKAGE} cannot be built: {done.stderr.strip()[-2000:]}",
                cure="see that the Python package index is reachable and gcc and Python's headers are installed",
                code="LabNoImageio",
            )

    return cached("ovirt-imageio", sources=[], build=install, extra_key=f"{PACKAGE} {sys.version}")


class ImageioDaemon:
    """A daemon below one folder; it may be killed and started again on the same port. Tickets live in its memory."""

    def __init__(self, folder: Path, authority: Authority) -> None:
        self.folder = folder
        self.port = free_port()
        self.log = folder / "imageio.log"
        self._pidfile = folder / "imageio.pid"
        pair = authority.issue("imageio", common_name="imageio", hosts=["127.0.0.1", "localhost"])
        (folder / "conf.d").mkdir()
        (folder / "conf.d" / "daemon.conf").write_text(
            _CONFIGURATION.format(
                folder=folder,
                key=pair.key,
                certificate=pair.certificate,
                authority=authority.certificate,
                port=self.port,
            )
        )

    def start(self) -> None:
        """Start it and return when it answers."""
        package = imageio()
        argv: list[str | Path] = [sys.executable, package / "bin" / "ovirt-imageio", "-c", self.folder]
        (self.folder / "control.sock").unlink(missing_ok=True)
        env = {**os.environ, "PYTHONPATH": str(package)}
        start_daemon(argv, log=self.log, pidfile=self._pidfile, env=env)
        wait_until(
            self._answers,
            timeout_s=60,
            what="ovirt-imageio",
            give_up=lambda: "" if is_alive(self._pidfile) else f"it has ended: {tail(self.log)}",
        )

    def stop(self, *, timeout_s: float = 10) -> None:
        """Stop it; with a timeout of 0 it is killed."""
        stop_daemon(self._pidfile, timeout_s=timeout_s)

    def url_of(self, ticket: str) -> str:
        """Where the image of a ticket is served."""
        return f"https://127.0.0.1:{self.port}/images/{ticket}"

    def add_ticket(
        self, ticket: str, size_bytes: int, nbd_socket: Path, *, timeout_s: int, dirty: bool = False
    ) -> None:
        """Let an image be read: what an engine has a host do when a transfer begins."""
        wanted = {
            "uuid": ticket,
            "size": size_bytes,
            "url": f"nbd:unix:{nbd_socket}",
            "timeout": timeout_s,
            "sparse": True,
            "dirty": dirty,
            "ops": ["read"],
        }
        self.control("PUT", ticket, wanted)

    def extend_ticket(self, ticket: str, timeout_s: int) -> bool:
        """Let a ticket end in so many seconds, counted from now; False if there is no such ticket."""
        return self.control("PATCH", ticket, {"timeout": timeout_s}) != http.HTTPStatus.NOT_FOUND

    def remove_ticket(self, ticket: str) -> None:
        """Take the right to read back; asked again while the daemon gives up waiting for requests under way."""
        wait_until(
            lambda: self.control("DELETE", ticket) != http.HTTPStatus.CONFLICT,
            timeout_s=60,
            what="the last request with a ticket",
        )

    def control(self, method: str, ticket: str, body: dict[str, Any] | None = None) -> int:
        """One request on the control socket: the status, of which 404 is no error, nor 409 for a ticket in use."""
        connection = _UnixConnection(self.folder / "control.sock")
        try:
            connection.request(method, f"/tickets/{ticket}", json.dumps(body) if body is not None else None)
            response = connection.getresponse()
            said = response.read()
        finally:
            connection.close()
        in_use = method == "DELETE" and response.status == http.HTTPStatus.CONFLICT
        if (
            response.status >= http.HTTPStatus.BAD_REQUEST
            and response.status != http.HTTPStatus.NOT_FOUND
            and not in_use
        ):
            raise PermanentError(f"{method} of a ticket: HTTP {response.status} {said[:200]!r}", code="LabImageio")
        return response.status

    def _answers(self) -> bool:
        try:
            return self.control("GET", "none") == http.HTTPStatus.NOT_FOUND
        except (OSError, http.client.HTTPException):
            return False


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=30)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


if __name__ == "__main__":
    imageio()
