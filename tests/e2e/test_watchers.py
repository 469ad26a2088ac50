"""What the end-to-end tests look with finds what it should: planted secrets in every form, and peers elsewhere."""

from __future__ import annotations

import base64
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
import sqlalchemy
from cryptography.fernet import Fernet
from hypothesis import given
from hypothesis import strategies as st

from tests.e2e.watchers import leaks_in_processes, remote_addresses
from tests.leaks import Rows, Secrets, small_files

CANARY = b"canary/Pa55+word of a t\xc3\xa9st"
ELSEWHERE = "192.0.2.1"


@pytest.fixture
def secrets() -> Secrets:
    return Secrets([CANARY])


@given(before=st.binary(max_size=9), after=st.binary(max_size=9))
def test_a_secret_is_found_as_it_is_quoted_and_inside_base64(before: bytes, after: bytes) -> None:
    secrets = Secrets([CANARY])
    whole = before + CANARY + after
    assert secrets.in_bytes(whole)
    assert secrets.in_bytes(quote(CANARY, safe="").encode())
    assert secrets.in_bytes(base64.b64encode(whole))
    assert secrets.in_bytes(base64.urlsafe_b64encode(whole))


@given(st.binary(max_size=200))
def test_other_bytes_are_no_secret(content: bytes) -> None:
    assert not Secrets([CANARY]).in_bytes(content)


@pytest.fixture
def careless() -> Iterator[None]:
    """A process with a secret in its command line and its environment."""
    wait = [sys.executable, "-c", "input()", CANARY]
    with subprocess.Popen(wait, env={b"TOKEN": b"Basic " + base64.b64encode(b"user:" + CANARY)}, stdin=-1) as process:
        yield
        process.kill()


@pytest.mark.usefixtures("careless")
def test_a_secret_in_a_command_line_or_an_environment_is_seen(secrets: Secrets) -> None:
    assert {what.split()[0] for what in leaks_in_processes(secrets)} == {"cmdline", "environ"}


def test_a_peer_outside_loopback_is_seen() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        try:
            peer.connect((ELSEWHERE, 9))  # sends nothing
        except OSError as error:
            pytest.skip(f"this machine has no way to {ELSEWHERE}, so nobody can call there: {error}")
        assert any(f"udp {ELSEWHERE}:9" in found for found in remote_addresses())
    assert not any(ELSEWHERE in found for found in remote_addresses())


def test_a_secret_in_a_small_file_and_in_an_encrypted_row_is_seen(tmp_path: Path, secrets: Secrets) -> None:
    (tmp_path / "log").write_bytes(b"password " + CANARY)
    assert [path.name for path, content in small_files(tmp_path) if secrets.in_bytes(content)] == ["log"]
    fernet, dsn = Fernet(Fernet.generate_key()), f"sqlite:///{tmp_path / 'rows.db'}"
    engine = sqlalchemy.create_engine(dsn)
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("create table trigger (id integer primary key, kwargs text)"))
        connection.execute(
            sqlalchemy.text("insert into trigger (kwargs) values (:kwargs)"),
            {"kwargs": fernet.encrypt(CANARY).decode()},
        )
    engine.dispose()
    rows = Rows(dsn, fernet)
    with rows.opened() as database:
        assert any(map(secrets.in_bytes, rows.texts(database, rows.tables(database)["trigger"])))
