"""A vCenter whose answers are cut in their middle, as by a proxy that gives up: sessions and leases outlive it."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
from pyVmomi.SoapAdapter import SoapResponseDeserializer

from mover.control.changed_areas import ChangeTracking
from mover.control.endpoint import Endpoint
from mover.control.keeper import Keeper
from mover.control.nfc_lease import NfcLease
from mover.control.vsphere import VsphereSession
from mover.halt import Halt
from mtv.model.errors import TemporaryError
from tests.mover import moving
from tests.mover.vcenter import SIZE, VCenter, vcenter_server


class Answers:
    """What the client makes of the vCenter's answers: `to_cut` more of them end in their middle."""

    def __init__(self) -> None:
        self.to_cut = 0
        self.whole = 0
        self._lock = threading.Lock()

    def arrive(self, answer: bytes) -> bytes:
        """So much of it as arrives."""
        with self._lock:
            if self.to_cut:
                self.to_cut -= 1
                return answer[: len(answer) // 2]
            self.whole += 1
            return answer


@pytest.fixture(scope="module")
def vcenter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VCenter]:
    with vcenter_server(tmp_path_factory.mktemp("vcenter")) as server:
        yield server


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Answers:
    found, deserialize = Answers(), SoapResponseDeserializer.Deserialize

    def cut_and_deserialize(own: Any, response: Any, *more: Any) -> Any:
        return deserialize(own, io.BytesIO(found.arrive(response.read())), *more)

    monkeypatch.setattr(SoapResponseDeserializer, "Deserialize", cut_and_deserialize)
    return found


def session_of(vcenter: VCenter, *, keep_alive_s: float = 3600) -> VsphereSession:
    endpoint = Endpoint(host="127.0.0.1", port=vcenter.port, ca_file=vcenter.secrets / "ca.pem")
    return VsphereSession(endpoint, vcenter.secrets, keep_alive_s=keep_alive_s)


@pytest.fixture
def session(vcenter: VCenter, answers: Answers) -> Iterator[VsphereSession]:
    """One that says nothing by itself."""
    with closing(session_of(vcenter)) as session:
        yield session


def log_in(session: VsphereSession, _vcenter: VCenter) -> object:
    return session.cookie()


def ask_for_changes(session: VsphereSession, vcenter: VCenter) -> object:
    return ChangeTracking(session, vcenter.vm, vcenter.keys[0]).since("52 c0 de/1", SIZE)


def open_lease(session: VsphereSession, vcenter: VCenter) -> object:
    return NfcLease(session, vcenter.vm, Halt()).disk(vcenter.keys[0])


@pytest.mark.lab
@pytest.mark.parametrize("ask", [log_in, ask_for_changes, open_lease])
def test_an_answer_that_is_cut_is_a_lost_connection(
    vcenter: VCenter, session: VsphereSession, answers: Answers, ask: Callable[[VsphereSession, VCenter], object]
) -> None:
    if ask is not log_in:
        session.cookie()
    answers.to_cut = 1
    with pytest.raises(TemporaryError) as lost:
        ask(session, vcenter)
    assert lost.value.code == "source-lost"


@pytest.mark.lab
def test_a_session_is_kept_alive_after_an_answer_was_cut(vcenter: VCenter, answers: Answers) -> None:
    with closing(session_of(vcenter, keep_alive_s=0.05)) as session:
        session.cookie()
        cut_one(answers)
        end(session._keeper)


@pytest.mark.lab
def test_a_lease_is_kept_alive_after_an_answer_was_cut(
    vcenter: VCenter, session: VsphereSession, answers: Answers
) -> None:
    lease = NfcLease(session, vcenter.vm, Halt(), report_every_s=0.05)
    lease.disk(vcenter.keys[0])
    cut_one(answers)
    end(lease._keeper)
    lease.close(well=False)


def cut_one(answers: Answers) -> None:
    """Cut the next answer to what keeps something alive, and see that more is asked."""
    answers.to_cut = 1
    moving.wait_for(lambda: not answers.to_cut, "an answer that is cut")
    seen = answers.whole
    moving.wait_for(lambda: answers.whole > seen, "another sign of life", timeout_s=60)


def end(keeper: Keeper) -> None:
    """So that no call is under way when its connections are dropped."""
    keeper._stop.set()
    assert keeper._thread is not None
    keeper._thread.join()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_keeper_that_has_ended_is_started_again() -> None:
    done: list[int] = []

    def fail_first() -> None:
        done.append(1)
        if len(done) == 1:
            raise ValueError("nobody deals with this one")

    stop = threading.Event()
    keeper = Keeper("keeper", fail_first, every_s=0.01, stop=stop)

    def try_again() -> bool:
        keeper.ensure_running()
        return len(done) > 1

    moving.wait_for(try_again, "the deed after the one that failed")
    stop.set()
