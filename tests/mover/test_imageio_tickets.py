"""Tickets, logins and transfers of oVirt that end in the middle of a copy, and disks that are locked."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ovirtsdk4 import types

from mover.control.controls import Controls
from mover.control.ovirt_engine import OvirtEngine
from mover.sources.imageio_http import ImageioConnection
from mtv.model.errors import TemporaryError
from tests.mover import moving
from tests.mover.ovirt import SIZE, Ovirt, assert_arrived, copy, served

pytestmark = pytest.mark.lab

_BETWEEN_CALLS = threading.RLock()


@pytest.fixture(autouse=True)
def _calls_are_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing end amid a call to the engine: a new login that is refused at once is believed, and rightly so."""
    call = OvirtEngine.call

    def call_alone(engine: OvirtEngine, *request: Any) -> Any:
        with _BETWEEN_CALLS:
            return call(engine, *request)

    monkeypatch.setattr(OvirtEngine, "call", call_alone)


@contextmanager
def before_request(number: int, deed: Callable[[], None]) -> Iterator[None]:
    """Do it once, before the daemon is asked for the `number`th time while the block runs."""
    try_ask, asked, lock = ImageioConnection._try_ask, iter(range(1, number + 1)), threading.Lock()

    def do_and_ask(connection: ImageioConnection, *request: Any) -> Any:
        with lock, _BETWEEN_CALLS:  # the other connections' requests come after the deed, too
            if next(asked, 0) == number:
                deed()
        return try_ask(connection, *request)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ImageioConnection, "_try_ask", do_and_ask)
        yield


@contextmanager
def amid_a_read(deed: Callable[[], None]) -> Iterator[None]:
    """Do it once while the block runs: when the answer to a read has begun."""
    try_ask, once, lock = ImageioConnection._try_ask, iter([True]), threading.Lock()

    def ask_and_do(connection: ImageioConnection, method: str, rest: str, headers: dict[str, str], *more: Any) -> Any:
        response = try_ask(connection, method, rest, headers, *more)
        with lock, _BETWEEN_CALLS:
            if "Range" in headers and next(once, False):
                deed()
        return response

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ImageioConnection, "_try_ask", ask_and_do)
        yield


def end_logins_and_tickets(ovirt: Ovirt) -> None:
    with _BETWEEN_CALLS:
        ovirt.engine.forget_logins()
        ovirt.engine.expire_tickets()


def test_tickets_and_logins_that_expire_before_each_request_are_renewed(
    ovirt: Ovirt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    try_ask = ImageioConnection._try_ask
    asked: list[str] = []

    def expire_and_ask(connection: ImageioConnection, *request: Any) -> Any:
        asked.append(request[0])
        if len(asked) % 2:  # what is asked again after the renewal goes through
            end_logins_and_tickets(ovirt)
        return try_ask(connection, *request)

    monkeypatch.setattr(ImageioConnection, "_try_ask", expire_and_ask)
    # With one connection no other request's end brings a ticket back to life.
    monkeypatch.setattr("mover.sources.imageio._MOST_CONNECTIONS", 1)
    with served(tmp_path, ovirt.original) as socket:
        ran = copy(ovirt, tmp_path, ovirt.disk(socket))
    assert_arrived(ovirt, tmp_path, ran)
    assert ovirt.engine.calls["login"] > 3
    assert ovirt.engine.calls["extend"] > 3


@given(st.lists(st.sampled_from(["", "", "login", "ticket", "pause", "cancel"]), min_size=4, max_size=10))
@settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_whatever_ends_before_a_request_the_disk_arrives(
    ovirt: Ovirt, tmp_path_factory: pytest.TempPathFactory, faults: list[str]
) -> None:
    """`faults` happen before the first requests, one each; at most two cancelled transfers in a row are borne."""
    folder = tmp_path_factory.mktemp("faults")
    try_ask, coming, engine = ImageioConnection._try_ask, iter(faults), ovirt.engine
    deeds = {
        "": lambda: None,
        "login": engine.forget_logins,
        "ticket": engine.expire_tickets,
        "pause": lambda: engine.end_transfers(types.ImageTransferPhase.PAUSED_SYSTEM),
        "cancel": lambda: engine.end_transfers(types.ImageTransferPhase.CANCELLED),
    }

    def fail_and_ask(connection: ImageioConnection, *request: Any) -> Any:
        with _BETWEEN_CALLS:
            deeds[next(coming, "")]()
        return try_ask(connection, *request)

    with served(folder, ovirt.original) as socket, pytest.MonkeyPatch.context() as patch:
        patch.setattr(ImageioConnection, "_try_ask", fail_and_ask)
        ran = copy(ovirt, folder, ovirt.disk(socket))
    assert_arrived(ovirt, folder, ran)


@pytest.mark.long
def test_everything_expires_every_two_seconds_for_half_a_minute(ovirt: Ovirt, tmp_path: Path) -> None:
    with served(tmp_path, ovirt.original, "--filter=rate", "rate=8M") as socket:
        phases = cycle([None, types.ImageTransferPhase.PAUSED_SYSTEM, None, types.ImageTransferPhase.CANCELLED])
        enough_at = time.monotonic() + 20  # the server's checksum is one request: at last it must get through

        def expire() -> None:
            with _BETWEEN_CALLS:
                end_logins_and_tickets(ovirt)
                seen = ovirt.engine.calls["create"] > 1 and ovirt.engine.calls["resume"] >= 1
                if (phase := next(phases)) and not (seen and time.monotonic() > enough_at):
                    ovirt.engine.end_transfers(phase)

        with moving.again_and_again(expire, 2.0):
            ran = copy(ovirt, tmp_path, ovirt.disk(socket))
    assert_arrived(ovirt, tmp_path, ran)
    assert ovirt.engine.calls["create"] > 1
    assert ovirt.engine.calls["resume"] >= 1


@pytest.mark.long
def test_everything_expires_every_twenty_seconds_for_three_minutes(ovirt: Ovirt, tmp_path: Path) -> None:
    dense = moving.make_disk(tmp_path / "dense.img", SIZE, [(0, SIZE)])
    phases = cycle([None, types.ImageTransferPhase.PAUSED_SYSTEM, None, types.ImageTransferPhase.CANCELLED])

    def expire() -> None:
        with _BETWEEN_CALLS:
            end_logins_and_tickets(ovirt)
            if phase := next(phases):
                ovirt.engine.end_transfers(phase)

    with served(tmp_path, dense) as socket, moving.again_and_again(expire, 20.0):
        ran = copy(ovirt, tmp_path, ovirt.disk(socket), limit_bytes_per_s=SIZE // 180)
    assert_arrived(ovirt, tmp_path, ran, dense)
    assert ovirt.engine.calls["login"] > 3
    assert ovirt.engine.calls["create"] > 1
    assert ovirt.engine.calls["resume"] >= 1


@pytest.mark.parametrize(
    ("phase", "deed", "times"),
    [(types.ImageTransferPhase.PAUSED_SYSTEM, "resume", 1), (types.ImageTransferPhase.CANCELLED, "create", 2)],
)
def test_a_transfer_that_the_engine_ended_is_resumed_or_made_anew(
    ovirt: Ovirt, tmp_path: Path, phase: types.ImageTransferPhase, deed: str, times: int
) -> None:
    with (
        served(tmp_path, ovirt.original) as socket,
        before_request(3, lambda: ovirt.engine.end_transfers(phase)),
    ):
        ran = copy(ovirt, tmp_path, ovirt.disk(socket))
    assert_arrived(ovirt, tmp_path, ran)
    assert ovirt.engine.calls[deed] >= times


def test_a_daemon_that_was_killed_and_started_again_is_read_on(ovirt: Ovirt, tmp_path: Path) -> None:
    def kill_and_start() -> None:
        ovirt.daemon.stop(timeout_s=0)
        ovirt.daemon.start()  # its tickets are gone

    # So slow that a block's bytes are not there when its answer begins.
    with served(tmp_path, ovirt.original, "--filter=rate", "rate=48M") as socket, amid_a_read(kill_and_start):
        ran = copy(ovirt, tmp_path, ovirt.disk(socket))
    assert_arrived(ovirt, tmp_path, ran)
    assert ran.said("connection lost")
    assert ovirt.engine.calls["create"] > 1


def test_a_disk_that_is_locked_for_a_while_is_waited_for(ovirt: Ovirt, tmp_path: Path) -> None:
    ovirt.engine.locked.add("d1")
    with served(tmp_path, ovirt.original) as socket:
        unlocked = threading.Timer(0.3, ovirt.engine.locked.clear)
        unlocked.start()
        assert_arrived(ovirt, tmp_path, copy(ovirt, tmp_path, ovirt.disk(socket)))
        unlocked.join()


def test_a_disk_that_stays_locked_may_be_free_later(
    ovirt: Ovirt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ovirt.engine.locked.add("d1")
    monkeypatch.setattr("mover.control.imageio_ticket.READY_WITHIN_S", 0.1)
    with pytest.raises(TemporaryError) as refused:
        Controls(ovirt.secrets).imageio_ticket(ovirt.disk(tmp_path / "none")).location()
    assert refused.value.code == "source-busy"
    assert "locked" in refused.value.message
