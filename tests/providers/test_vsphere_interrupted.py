"""An inventory that is disturbed while it is read: it costs a page, not the inventory."""

from __future__ import annotations

import contextlib
import io
import select
import socket
import threading
from collections.abc import Iterator

import pytest
from pyVim.task import WaitForTask
from pyVmomi.SoapAdapter import SoapResponseDeserializer

from mtv.inventory import snapshot
from mtv.model.errors import TemporaryError
from mtv.providers.registry import open_provider
from mtv.providers.vmware import collect
from mtv.providers.vmware.session import Session

pytestmark = pytest.mark.lab


class Cutter:
    """A way to the vCenter that cuts every connection once it has carried so many bytes of answers, `cuts` times."""

    def __init__(self, port: int, *, after_bytes: int, cuts: int) -> None:
        self.after_bytes, self.cuts = after_bytes, cuts
        self._port = port
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._server.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._server.accept()
                threading.Thread(target=self._carry, args=(near,), daemon=True).start()

    def _carry(self, near: socket.socket) -> None:
        carried = 0
        with near, socket.create_connection(("127.0.0.1", self._port)) as far, contextlib.suppress(OSError):
            while True:
                for one in select.select([near, far], [], [], 60)[0]:
                    data = one.recv(65536)
                    if not data:
                        return
                    (far if one is near else near).sendall(data)
                    carried += len(data) if one is far else 0
                if carried > self.after_bytes and self.cuts:
                    self.cuts -= 1
                    return


@pytest.fixture
def cutter(vcenter) -> Iterator[Cutter]:
    opened = Cutter(vcenter["port"], after_bytes=150_000, cuts=0)
    yield opened
    opened.close()


def test_sessions_that_end_between_pages_are_renewed_and_nothing_is_read_twice(connect, faults):
    seen: list[tuple[int, int]] = []
    with open_provider(connect()) as provider:
        whole = provider.vms()
        faults.soap("RetrievePropertiesEx", "NotAuthenticated", skip=2)

        def expire(done: int, total: int) -> None:
            seen.append((done, total))
            faults.expire_sessions()

        again = snapshot(provider, on_progress=expire)
    assert [vm.id for vm in again.vms] == [vm.id for vm in whole]
    assert seen == [(100, len(whole)), (len(whole), len(whole))]


def test_a_connection_that_breaks_in_the_middle_of_an_answer_is_made_again(connect, cutter):
    with open_provider(connect()) as provider:
        whole = provider.vms()
    with open_provider(connect(port=cutter.port)) as provider:
        cutter.cuts = 2
        assert provider.vms() == whole
    assert cutter.cuts == 0


def test_an_answer_that_ends_in_its_middle_without_a_word_is_asked_for_again(connect, monkeypatch):
    deserialize, to_cut = SoapResponseDeserializer.Deserialize, iter([False] * 5 + [True])

    def cut_one(own, response, *more):
        answer = response.read()
        return deserialize(own, io.BytesIO(answer[: len(answer) // 2] if next(to_cut, False) else answer), *more)

    with open_provider(connect()) as provider:
        whole = provider.vms()
        monkeypatch.setattr(SoapResponseDeserializer, "Deserialize", cut_one)
        assert provider.vms() == whole
    assert next(to_cut, None) is None


def test_a_connection_that_breaks_every_time_ends_in_a_clear_error_worth_a_retry(connect, cutter):
    with open_provider(connect(port=cutter.port)) as provider:
        cutter.cuts = 1000
        with pytest.raises(TemporaryError, match="read the inventory"):
            provider.vms()
        cutter.cuts = 0


def test_a_vm_that_is_deleted_while_the_inventory_is_read_is_absent(connect, monkeypatch):
    ids_of = collect.vm_ids

    def then_one_goes(api):
        ids = ids_of(api)
        with open_provider(connect()) as other:
            (doomed,) = other.vms(["doomed-1"])
            session: Session = other.session
            WaitForTask(collect.vm_reference(session.open(), doomed.id).Destroy_Task())
            assert doomed.id in ids
        return ids

    monkeypatch.setattr(collect, "vm_ids", then_one_goes)
    with open_provider(connect()) as provider:
        names = [vm.name for vm in provider.vms()]
    assert "doomed-1" not in names
    assert sum(name.startswith("load-") for name in names) == 130


def test_events_that_the_user_may_not_read_are_no_reason_to_fail(connect, faults, caplog):
    faults.soap("QueryEvents", "NoPermission", count=0)
    with open_provider(connect()) as provider:
        (vm,) = provider.vms(["off-1"])
    assert vm.disks[0].generation.endswith("on=")
    assert "may not read events" in caplog.text
