"""Disks out of a vCenter: the lab's server, real HTTPS, sessions and leases that end in the middle of a copy."""

from __future__ import annotations

import hashlib
import json
import ssl
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from mover.control.endpoint import Endpoint
from mover.control.nfc_lease import NfcLease
from mover.control.vsphere import VsphereSession
from mover.feed import Patience
from mtv.model.errors import TemporaryError
from tests.mover import moving
from tests.mover.moving import MIB
from tests.mover.vcenter import SIZE, VCenter, assert_arrived, copy, vcenter_server

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VCenter]:
    with vcenter_server(tmp_path_factory.mktemp("vcenter")) as server:
        yield server


@pytest.fixture
def vcenter(server: VCenter) -> Iterator[VCenter]:
    yield server
    server.faults.clear()


@pytest.mark.parametrize("way", ["datastore", "nfc"])
def test_all_disks_of_a_vm_arrive(vcenter: VCenter, tmp_path: Path, way: str) -> None:
    sources = [getattr(vcenter, way)(number) for number in range(2)]
    ran = copy(vcenter, tmp_path, *sources)
    assert_arrived(vcenter, tmp_path, ran, 2)
    again = copy(vcenter, tmp_path, *sources)
    assert_arrived(vcenter, tmp_path, again, 2)
    assert {done.bytes_resumed > 0 for done in again.result.disks} == {True}
    assert (again.result.disks[0].bytes_read > 0) is (way == "nfc")  # a stream has to be read again, and says so


@pytest.mark.parametrize("way", ["datastore", "nfc"])
def test_a_session_that_ends_in_the_middle_is_renewed(
    vcenter: VCenter, tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    logins: list[int] = []
    log_in = VsphereSession._log_in
    monkeypatch.setattr(VsphereSession, "_log_in", lambda session: logins.append(1) or log_in(session))
    vcenter.faults.session_idle(1000)
    vcenter.faults.limit_downloads(bytes_per_second=3 * MIB)  # each block takes longer than an idle session lives
    try:
        assert_arrived(vcenter, tmp_path, copy(vcenter, tmp_path, getattr(vcenter, way)()), 1)
        assert len(logins) > 1 or way == "nfc"  # an export's download needs no session, its lease does
    finally:
        vcenter.faults.session_idle(0)
        vcenter.faults.limit_downloads(bytes_per_second=0)


def test_a_call_under_way_while_the_session_is_renewed_leaves_no_connection_open(vcenter: VCenter) -> None:
    endpoint = Endpoint(host="127.0.0.1", port=vcenter.port, ca_file=vcenter.secrets / "ca.pem")
    session = VsphereSession(endpoint, vcenter.secrets)
    stale = session.cookie()
    stub = session._instance._stub
    connection = stub.GetConnection()
    session.renew(stale)
    stub.ReturnConnection(connection)  # what the call does when it is over
    session.close()
    assert stub.pool == []


@pytest.mark.parametrize("way", ["datastore", "nfc"])
def test_dropped_and_refused_downloads_are_tried_again(vcenter: VCenter, tmp_path: Path, way: str) -> None:
    vcenter.faults.drop_downloads(after_bytes=MIB, count=2)
    ran = copy(vcenter, tmp_path, getattr(vcenter, way)())
    assert_arrived(vcenter, tmp_path, ran, 1)
    vcenter.faults.refuse_downloads(status=503, count=2)
    (tmp_path / "second").mkdir()
    assert_arrived(vcenter, tmp_path / "second", copy(vcenter, tmp_path / "second", getattr(vcenter, way)()), 1)


@pytest.mark.parametrize("way", ["datastore", "nfc"])
def test_a_download_that_hangs_is_given_up_and_tried_again(
    vcenter: VCenter, tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    endure = Patience.endure

    def lift_and_endure(patience: Patience, error: TemporaryError) -> None:
        vcenter.faults.limit_downloads(bytes_per_second=0)
        endure(patience, error)

    monkeypatch.setattr(Patience, "endure", lift_and_endure)
    monkeypatch.setattr("mover.control.tls.TIMEOUT_S", 0.5)
    moving.hurry(monkeypatch)
    vcenter.faults.limit_downloads(bytes_per_second=10_000)  # a write of the server takes seconds
    ran = copy(vcenter, tmp_path, getattr(vcenter, way)())
    assert_arrived(vcenter, tmp_path, ran, 1)
    assert ran.said("try 2 of")


def test_a_lease_that_ran_out_is_replaced(vcenter: VCenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[int] = []
    open_lease = NfcLease._open

    def open_and_count(lease: NfcLease) -> None:
        opened.append(1)
        try:
            open_lease(lease)
        finally:
            vcenter.faults.lease_timeout(0)  # only the first one runs out

    monkeypatch.setattr(NfcLease, "_open", open_and_count)
    vcenter.faults.lease_timeout(1)
    vcenter.faults.drop_downloads(after_bytes=2 * MIB, count=1)
    assert_arrived(vcenter, tmp_path, copy(vcenter, tmp_path, vcenter.nfc()), 1)
    assert len(opened) > 1


def test_a_byte_flipped_in_an_export_is_refused(vcenter: VCenter, tmp_path: Path) -> None:
    vcenter.faults.corrupt_downloads(at_byte=MIB, count=1)
    ran = copy(vcenter, tmp_path, vcenter.nfc())
    assert ran.result.failure is not None
    assert ran.result.failure.code == "source-corrupt"


def failure_code(ran: moving.Ran) -> str:
    assert ran.result.failure is not None
    return ran.result.failure.code


def test_a_wrong_password_is_one_clear_error_without_the_password(vcenter: VCenter, tmp_path: Path) -> None:
    wrong = tmp_path / "secrets"
    wrong.mkdir()
    for name in ("user", "ca.pem"):
        (wrong / name).write_bytes((vcenter.secrets / name).read_bytes())
    (wrong / "password").write_text("canary-Passw0rd")
    spec = moving.spec_of(tmp_path / "w", moving.disk_of(vcenter.datastore(), SIZE, tmp_path / "t"))
    ran = moving.run(msgspec.structs.replace(spec, credentials_dir=str(wrong)))
    assert failure_code(ran) == "source-login"
    assert "canary" not in json.dumps(ran.lines)
    assert not (tmp_path / "t").exists()


def test_an_unknown_certificate_is_refused(vcenter: VCenter, tmp_path: Path) -> None:
    bare = tmp_path / "secrets"
    bare.mkdir()
    for name in ("user", "password"):
        (bare / name).write_bytes((vcenter.secrets / name).read_bytes())
    spec = moving.spec_of(tmp_path / "w", moving.disk_of(vcenter.datastore(), SIZE, tmp_path / "t"))
    assert failure_code(moving.run(msgspec.structs.replace(spec, credentials_dir=str(bare)))) == "source-certificate"


def test_a_thumbprint_is_enough_and_a_wrong_one_is_refused(vcenter: VCenter, tmp_path: Path) -> None:
    certificate = ssl.PEM_cert_to_DER_cert((vcenter.secrets / "ca.pem").read_text())
    right = ":".join(f"{byte:02X}" for byte in hashlib.sha256(certificate).digest())
    source = msgspec.structs.replace(vcenter.datastore(), thumbprint=right)
    assert_arrived(vcenter, tmp_path, copy(vcenter, tmp_path, source), 1)
    wrong = msgspec.structs.replace(source, thumbprint="00" * 32)
    (tmp_path / "second").mkdir()
    assert failure_code(copy(vcenter, tmp_path / "second", wrong)) == "source-certificate"


def test_a_disk_that_is_not_there_is_a_permanent_error(vcenter: VCenter, tmp_path: Path) -> None:
    gone = msgspec.structs.replace(vcenter.datastore(), path="app/gone-flat.vmdk")
    assert failure_code(copy(vcenter, tmp_path, gone)) == "source-missing"
    other = msgspec.structs.replace(vcenter.nfc(), disk_key=4711)
    (tmp_path / "second").mkdir()
    assert failure_code(copy(vcenter, tmp_path / "second", other)) == "source-missing"
