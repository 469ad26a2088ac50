"""Bits that flip on the way and servers that fall silent: TLS and our patience let neither through."""

from __future__ import annotations

import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

import mover.control.tls
from mover.journal import read_journal
from mover.measure import digest_of_path
from mtv.model.transfer import HttpRange
from tests.mover import moving, web
from tests.mover.moving import MIB
from tests.mover.relay import Relay, relay

SIZE = 14 * MIB
MANY = 100
"""More than anybody tries."""


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    return moving.make_disk(tmp_path / "disk.img", SIZE, [(0, SIZE)])


@pytest.fixture
def network(disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Relay]:
    """A web server with the disk, behind a network that spoils each connection when a block has come through it."""
    moving.hurry(monkeypatch)
    with web.serve(disk, tmp_path / "secrets") as server:
        port = urllib.parse.urlsplit(server.url).port
        assert port
        with relay(port, after_bytes=5 * MIB) as running:
            yield running


def copy(network: Relay, tmp_path: Path) -> moving.Ran:
    source = HttpRange(url=f"https://127.0.0.1:{network.port}/disk.raw", format="raw")
    spec = moving.spec_of(tmp_path / "w", moving.disk_of(source, SIZE, tmp_path / "t"))
    # One connection at a time: the others would carry what the spoiled one was to.
    spec = msgspec.structs.replace(spec, credentials_dir=str(tmp_path / "secrets"), connections=1)
    return moving.run(spec)


@pytest.mark.parametrize("fault", ["flip", "stall"])
def test_what_a_bad_network_spoils_is_asked_for_again(
    network: Relay, disk: Path, tmp_path: Path, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert mover.control.tls.TIMEOUT_S < 60
    monkeypatch.setattr("mover.control.tls.TIMEOUT_S", 0.5)
    network.faults = ["", fault]  # the first connection asks for the size
    ran = copy(network, tmp_path)
    assert ran.result.ok, ran.lines
    assert ran.said("connection lost")
    assert ran.result.disks[0].digest == digest_of_path(disk)
    assert moving.same_bytes(disk, tmp_path / "t", SIZE)


@pytest.mark.parametrize("fault", ["flip", "stall"])
def test_a_network_that_spoils_everything_ends_the_copy_and_what_is_proven_is_right(
    network: Relay, disk: Path, tmp_path: Path, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mover.control.tls.TIMEOUT_S", 0.3)
    monkeypatch.setattr(network, "_after_bytes", 64 << 10)
    network.faults = ["", *[fault] * MANY]
    failure = copy(network, tmp_path).result.failure
    assert failure is not None
    assert (failure.code, failure.retryable) == ("source-lost", True)
    _, replayed = read_journal(tmp_path / "w" / "journal-0.bin")
    assert not any(replayed.proven)
    network.faults = []
    again = copy(network, tmp_path)
    assert again.result.ok, again.lines
    assert moving.same_bytes(disk, tmp_path / "t", SIZE)
