"""Documents that end in their middle, as from a server that is restarted: another try may get the whole one."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mover.control.endpoint import Endpoint
from mover.control.exchange import exchange
from mover.control.keystone import KeystoneSession
from mover.control.ovirt_engine import OvirtEngine
from mover.sources.glance import GlanceFile, keystone_scope
from mtv.model.errors import TemporaryError
from mtv.model.transfer import GlanceImage

TOKEN = b"HTTP/1.1 201 Created\r\nX-Subject-Token: t\r\nContent-Length: 2\r\n\r\n{}"


@contextmanager
def answering(*answers: bytes) -> Iterator[int]:
    """The port of a server that gives each connection the next answer, whatever it is asked, and hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            for each in answers:
                connection, _ = listener.accept()
                with connection:
                    connection.recv(1 << 16)
                    connection.sendall(each)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield int(listener.getsockname()[1])
        thread.join()


def half_of(document: object, *, tells_length: bool) -> bytes:
    whole = json.dumps(document).encode()
    length = f"Content-Length: {len(whole)}\r\n" if tells_length else ""
    return f"HTTP/1.1 200 OK\r\n{length}Connection: close\r\n\r\n".encode() + whole[: len(whole) // 2]


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    for name in ("user", "password"):
        (tmp_path / name).write_text("canary-Passw0rd")
    return tmp_path


@pytest.mark.parametrize("tells_length", [True, False], ids=["length-told", "length-not-told"])
def test_half_an_answer_to_a_login_at_an_ovirt_engine_is_no_refusal(secrets: Path, tells_length: bool) -> None:
    with answering(half_of({"access_token": "t" * 99}, tells_length=tells_length)) as port:
        engine = OvirtEngine(Endpoint(host="127.0.0.1", port=port, tls=False), secrets)
        with pytest.raises(TemporaryError) as cut:
            engine.call("GET", "disks")
    assert "canary" not in str(cut.value)


@pytest.mark.parametrize("tells_length", [True, False], ids=["length-told", "length-not-told"])
def test_half_a_record_of_an_image_may_be_whole_next_time(secrets: Path, tells_length: bool) -> None:
    record = {"status": "active", "size": 512, "disk_format": "raw", "container_format": "bare"}
    with answering(TOKEN, half_of(record, tells_length=tells_length)) as port:
        root = f"http://127.0.0.1:{port}"
        where = GlanceImage(endpoint=root, image="i", auth_url=root, project="demo", insecure=True)
        file = GlanceFile(where, KeystoneSession(keystone_scope(where, None), secrets), None)
        with pytest.raises(TemporaryError):
            file.record()


@pytest.mark.parametrize("tells_length", [True, False], ids=["length-told", "length-not-told"])
def test_a_server_that_hangs_up_after_its_answer_leaves_no_socket_open(tells_length: bool) -> None:
    with answering(half_of({"status": "active"}, tells_length=tells_length)) as port:
        endpoint = Endpoint(host="127.0.0.1", port=port, tls=False)
        answer: object = None
        try:
            answer = exchange(endpoint, "GET", "/", body=None, headers={}, longest_bytes=99)
        except http.client.IncompleteRead as error:
            answer = error  # with all that its frames hold
        assert connections_to(port) == [], answer


def connections_to(port: int) -> list[str]:
    """The descriptors of this process that are a connection to the port."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    inodes = {fields[9] for fields in lines if fields[2] == f"0100007F:{port:04X}"}
    links = [str(fd.readlink()) for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink()]
    return [link for link in links if link.removeprefix("socket:[").removesuffix("]") in inodes]
