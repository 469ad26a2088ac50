"""Disks out of a vCenter: the lab's server, real HTTPS, sessions and leases that end in the middle of a copy."""

from __future__ import annotations

import hashlib
import json
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from pyVim.connect import Disconnect, SmartConnect

from lab.process import stop_daemon
from lab.vcenter.faults import Faults
from lab.vcenter.part import start_server
from mover.control.nfc_lease import NfcLease
from mover.control.vsphere import VsphereSession
from mover.measure import digest_of_path
from mtv.model.transfer import Proof, VsphereDatastore, VsphereNfc
from tests.mover import moving
from tests.mover.moving import MIB

pytestmark = pytest.mark.lab
SIZE = 40 * MIB
USER, PASSWORD = "administrator@vsphere.local", "not-Secret-1"


class VCenter(msgspec.Struct):
    """A running server, the disks of its one VM, and a folder with the credential files of a pod."""

    port: int
    vm: str
    keys: list[int]
    flat_files: list[str]
    disks: list[Path]
    secrets: Path
    faults: Any

    def datastore(self, number: int = 0) -> VsphereDatastore:
        """The source for a disk by its URL."""
        return VsphereDatastore(
            host="127.0.0.1", port=self.port, datacenter="dc1", datastore="ds-gold", path=self.flat_files[number]
        )

    def nfc(self, number: int = 0) -> VsphereNfc:
        """The source for a disk by the VM's export lease."""
        return VsphereNfc(host="127.0.0.1", port=self.port, vm=self.vm, disk_key=self.keys[number])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VCenter]:
    folder = tmp_path_factory.mktemp("vcenter")
    areas = [(0, 9 * MIB), (13 * MIB + 512, 70000), (SIZE - 5000, 5000)]
    disks = [moving.make_disk(folder / f"disk-{n}.img", SIZE, areas, seed=n) for n in range(2)]
    secrets = folder / "secrets"
    (folder / "scratch").mkdir()
    secrets.mkdir()
    for name, text in (("user", USER), ("password", PASSWORD)):
        (secrets / name).write_text(text)
        (secrets / name).chmod(0o600)
    document = {
        "Users": [{"Name": USER, "PasswordFile": str(secrets / "password")}],
        "Scratch": str(folder / "scratch"),
        "Datacenters": [
            {
                "Name": "dc1",
                "Datastores": ["ds-gold"],
                "Networks": ["VM Network"],
                "Clusters": [{"Name": "cl1", "Hosts": ["esx-1.lab"]}],
            }
        ],
        "VMs": [
            {
                "Name": "app",
                "Host": "esx-1.lab",
                "Datastore": "ds-gold",
                "GuestID": "debian12_64Guest",
                "CPUs": 1,
                "MemoryMB": 64,
                "Disks": [{"File": str(disk)} for disk in disks],
            }
        ],
    }
    (folder / "inventory.json").write_text(json.dumps(document))
    port = start_server(folder)
    try:
        (secrets / "ca.pem").write_bytes((folder / "ca.pem").read_bytes())
        context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
        instance = SmartConnect(host="127.0.0.1", port=port, user=USER, pwd=PASSWORD, sslContext=context)
        found = instance.content.searchIndex.FindByInventoryPath("dc1/vm/app")
        devices = [device for device in found.config.hardware.device if hasattr(device, "capacityInBytes")]
        paths = [device.backing.fileName.partition("] ")[2].replace(".vmdk", "-flat.vmdk") for device in devices]
        keys, moid = [device.key for device in devices], found._moId
        Disconnect(instance)
        instance._stub.DropConnections()
        faults = Faults({"lab_url": f"https://127.0.0.1:{port}/lab", "ca_file": str(folder / "ca.pem")})
        yield VCenter(port, moid, keys, paths, disks, secrets, faults)
    finally:
        stop_daemon(folder / "vcenter.pid")


@pytest.fixture
def vcenter(server: VCenter) -> Iterator[VCenter]:
    yield server
    server.faults.clear()


def copy(vcenter: VCenter, folder: Path, *sources: VsphereDatastore | VsphereNfc) -> moving.Ran:
    """Copy disks number 0, 1, … from these sources into `folder`."""
    disks = [
        moving.disk_of(source, SIZE, folder / f"t{number}", id=str(number)) for number, source in enumerate(sources)
    ]
    spec = moving.spec_of(folder / "w", *disks)
    return moving.run(msgspec.structs.replace(spec, credentials_dir=str(vcenter.secrets)))


def assert_arrived(vcenter: VCenter, folder: Path, ran: moving.Ran, count: int) -> None:
    """The first `count` disks are there, proven, with the digest of the originals."""
    assert ran.result.ok, ran.lines
    for number in range(count):
        original = vcenter.disks[number]
        assert moving.same_bytes(original, folder / f"t{number}", SIZE)
        assert ran.result.disks[number].digest == digest_of_path(original)
        assert ran.result.disks[number].proof is Proof.AS_READ


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


@pytest.mark.parametrize("way", ["datastore", "nfc"])
def test_dropped_and_refused_downloads_are_tried_again(vcenter: VCenter, tmp_path: Path, way: str) -> None:
    vcenter.faults.drop_downloads(after_bytes=MIB, count=2)
    ran = copy(vcenter, tmp_path, getattr(vcenter, way)())
    assert_arrived(vcenter, tmp_path, ran, 1)
    vcenter.faults.refuse_downloads(status=503, count=2)
    (tmp_path / "second").mkdir()
    assert_arrived(vcenter, tmp_path / "second", copy(vcenter, tmp_path / "second", getattr(vcenter, way)()), 1)


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
