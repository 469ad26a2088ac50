"""The connection between the node agent and the launcher in one pod."""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path
from threading import Event
from types import TracebackType
from typing import Any

_SOCKET = "launcher-sock"


class LauncherGone(Exception):
    """The launcher is not there, or not any more."""


class LauncherLink:
    """Sends and receives JSON documents, one per line. Usable with ``with``; ``close`` may come from another thread."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._lines = connection.makefile("rb")

    @classmethod
    def open(cls, kubelet: Path, pod_uid: str, *, timeout_s: float, stop: Event) -> LauncherLink:
        """Connect to the pod's launcher; it may still be starting. LauncherGone if it does not come in time."""
        folder = kubelet / "pods" / pod_uid / "volumes" / "kubernetes.io~empty-dir" / "sockets"
        end = time.monotonic() + timeout_s
        why: OSError | None = None
        while time.monotonic() < end and not stop.is_set():
            try:
                return cls(_connect(folder))
            except OSError as error:
                why = error
                stop.wait(0.1)
        raise LauncherGone(f"no launcher in {folder}: {why}")

    def send(self, message: dict[str, Any]) -> None:
        """Send one document."""
        try:
            self._connection.sendall(json.dumps(message).encode() + b"\n")
        except OSError as why:
            raise LauncherGone(str(why)) from why

    def receive(self) -> dict[str, Any]:
        """Wait for the next document, as long as the launcher lives."""
        try:
            line = self._lines.readline()
        except (OSError, ValueError) as why:
            raise LauncherGone(str(why)) from why
        if not line:
            raise LauncherGone("the launcher has closed the connection")
        message: dict[str, Any] = json.loads(line)
        return message

    def close(self) -> None:
        """End the connection; a waiting ``receive`` ends with LauncherGone."""
        try:
            self._connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # the other side was faster

    def __enter__(self) -> LauncherLink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()
        self._lines.close()
        self._connection.close()


def _connect(folder: Path) -> socket.socket:
    """Connect through the folder's descriptor: the path itself is longer than the 107 bytes that a socket may have."""
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(f"/proc/self/fd/{descriptor}/{_SOCKET}")
    except OSError:
        connection.close()
        raise
    finally:
        os.close(descriptor)
    return connection
