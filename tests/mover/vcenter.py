"""A vCenter of one VM with two disks, for tests of the mover: the lab's server, and the credential files of a pod."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from pyVim.connect import Disconnect, SmartConnect

from lab.process import stop_daemon
from lab.vcenter.faults import Faults
from lab.vcenter.part import start_server
from mover.measure import digest_of_path
from mtv.model.transfer import Proof, VsphereDatastore, VsphereNfc
from tests.mover import moving
from tests.mover.moving import MIB

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
    faults: Faults

    def datastore(self, number: int = 0) -> VsphereDatastore:
        """The source for a disk by its URL."""
        return VsphereDatastore(
            host="127.0.0.1",
            port=self.port,
            datacenter="dc1",
            datastore="ds-gold",
            path=self.flat_files[number],
            vm=self.vm,
            disk_key=self.keys[number],
        )

    def nfc(self, number: int = 0) -> VsphereNfc:
        """The source for a disk by the VM's export lease."""
        return VsphereNfc(host="127.0.0.1", port=self.port, vm=self.vm, disk_key=self.keys[number])


@contextmanager
def vcenter_server(folder: Path, *more: Path, export_host: bool = False) -> Iterator[VCenter]:
    """A server with its files in `folder`; it ends with the block. The VM is off, changes of its disks are tracked.

    `more` are further disks behind its two. With `export_host` exports are served at another port, under a certificate
    that no authority signed, as by an ESXi host.
    """
    areas = [(0, 9 * MIB), (13 * MIB + 512, 70000), (SIZE - 5000, 5000)]
    disks = [moving.make_disk(folder / f"disk-{n}.img", SIZE, areas, seed=n) for n in range(2)]
    disks += more
    secrets = folder / "secrets"
    (folder / "scratch").mkdir()
    secrets.mkdir()
    for name, text in (("user", USER), ("password", PASSWORD)):
        (secrets / name).write_text(text)
        (secrets / name).chmod(0o600)
    document = {
        "Users": [{"Name": USER, "PasswordFile": str(secrets / "password")}],
        "Scratch": str(folder / "scratch"),
        "ExportHost": export_host,
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
                "CBT": True,
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
