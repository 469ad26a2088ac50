"""A vCenter and an oVirt engine of our own for the tests of their providers, and a maker of appliances."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.ovirt.sample import data_centre
from lab.vcenter.faults import Faults
from mtv.model.connection import Connection
from mtv.providers.ovirt import power as power_module
from mtv.providers.ovirt import session as session_module
from mtv.providers.registry import open_provider
from tests.providers import ovirt_lab, vsphere_lab

OVIRT_LOAD = 120
"""So many VMs make two pages together with the others of the engine."""


def _vm(name: str, **options: Any) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "Datastore": "ds-gold",
        "GuestID": "debian12_64Guest",
        "GuestName": "Debian GNU/Linux 12 (64-bit)",
        "CPUs": 2,
        "MemoryMB": 256,
        "NICs": [{"Network": "VM Network"}],
        "Disks": [{"SizeMB": 8}],
    }
    return vsphere_lab.vm(name, **{**plain, **options})


DATACENTERS = [
    vsphere_lab.datacenter(
        "dc1",
        Folders=["prod", "prod/web"],
        Datastores=["ds-gold", "ds-silver"],
        Portgroups=["dvpg-app"],
        Segments=["segment-db"],
        Opaque=["nsx-web"],
        Clusters=[{"Name": "cl-dc1", "Hosts": ["esx-1.lab", "esx-2.lab"]}],
    ),
    vsphere_lab.datacenter(
        "dc2",
        Folders=["prod", "prod/web"],
        Datastores=["ds-other", "ds-idle"],
        Networks=[],
        Portgroups=["dvpg-idle"],
        Clusters=[{"Name": "cl-dc2", "Hosts": ["esx-3.lab"]}, {"Name": "cl-idle", "Hosts": ["esx-idle.lab"]}],
    ),
]
VMS = [
    _vm(
        "web-1",
        Folder="prod/web",
        Host="esx-2.lab",
        PowerOn=True,
        CBT=True,
        Firmware="efi",
        SecureBoot=True,
        TPM=True,
        CPUs=4,
        CoresPerSocket=2,
        MemoryMB=1024,
        Hostname="web-1.example.test",
        Tags={"environment": "production", "team": "shop"},
        Attributes={"owner": "jane"},
        UUID="4203a1b2-0000-4000-8000-000000000001",
        NICs=[
            {"MAC": "00:50:56:AA:00:01", "Network": "dvpg-app", "IPs": ["10.0.0.11"]},
            {"MAC": "00:50:56:aa:00:02", "Network": "VM Network", "Model": "e1000"},
        ],
        Disks=[
            {"SizeMB": 16, "Controller": "pvscsi"},
            {"SizeMB": 8, "Controller": "nvme", "Datastore": "ds-silver"},
            {"SizeMB": 4, "Controller": "sata", "Mode": "independent_persistent"},
        ],
    ),
    _vm("snapshot-1", Snapshots=["before"]),
    _vm("rdm-1", Disks=[{"SizeMB": 8}, {"SizeMB": 8, "RDM": "physical:0200000000600a0b"}]),
    _vm("shared-1", Disks=[{"SizeMB": 8, "Shared": True}]),
    _vm("template-1", Template=True),
    _vm("off-1"),
    _vm("expiry-1", PowerOn=True),
    _vm("audit-1", PowerOn=True),
    _vm("twice", Folder="prod"),
    _vm("twice", Folder="prod/web", Datastore="ds-silver"),
    _vm("far-1", Datacenter="dc2", Datastore="ds-other", NICs=[]),
    *(_vm(f"power-{number}", PowerOn=True) for number in range(1, 6)),
    _vm("nsx-1", NICs=[{"Network": "nsx-web"}, {"Network": "segment-db"}, {"Network": "VM Network"}]),
    _vm("doomed-1", NICs=[]),
    _vm("load-%03d", Count=130, NICs=[]),
]


@pytest.fixture(scope="session")
def vcenter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    with vsphere_lab.vcenter(tmp_path_factory.mktemp("vcenter"), datacenters=DATACENTERS, vms=VMS) as running:
        yield running


@pytest.fixture
def faults(vcenter: dict[str, Any]) -> Iterator[Faults]:
    client = Faults(vcenter)
    yield client
    client.clear()


@pytest.fixture
def connect(vcenter: dict[str, Any]) -> Callable[..., Connection]:
    return lambda **changed: vsphere_lab.connection(vcenter, **changed)


NAMESPACES = (
    'xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1" '
    'xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData" '
    'xmlns:vmw="http://www.vmware.com/schema/ovf"'
)


def item(kind: int, instance: int, **fields: object) -> str:
    inner = "".join(f"<rasd:{name}>{value}</rasd:{name}>" for name, value in fields.items())
    return (
        f"<Item><rasd:InstanceID>{instance}</rasd:InstanceID>"
        f"<rasd:ResourceType>{kind}</rasd:ResourceType>{inner}</Item>"
    )


def system(name: str, *disks: str, extra: str = "", memory: str = "512", units: str = "byte * 2^20") -> str:
    hardware = item(3, 1, VirtualQuantity=2) + item(4, 2, VirtualQuantity=memory, AllocationUnits=units)
    hardware += item(6, 3, Address=0, ResourceSubType="VirtualSCSI")
    for number, disk in enumerate(disks):
        hardware += item(17, 10 + number, Parent=3, AddressOnParent=number, HostResource=f"ovf:/disk/{disk}")
    return (
        f'<VirtualSystem ovf:id="{name}"><Info/><Name>{name}</Name><VirtualHardwareSection><Info/>'
        f"{hardware}{extra}</VirtualHardwareSection></VirtualSystem>"
    )


def envelope(
    systems: str, *, files: dict[str, str] | None = None, disks: str = "", namespaces: str = NAMESPACES
) -> bytes:
    """`files` maps file ids to their attributes; without `disks` each file is a disk of 1 MiB named disk-<file id>."""
    files = {"file1": 'ovf:href="disk1.vmdk"'} if files is None else files
    references = "".join(f'<File ovf:id="{key}" {attributes}/>' for key, attributes in files.items())
    disks = disks or "".join(
        f'<Disk ovf:diskId="disk-{key}" ovf:fileRef="{key}" ovf:capacity="1"'
        ' ovf:capacityAllocationUnits="byte * 2^20"/>'
        for key in files
    )
    return (
        f'<?xml version="1.0"?><Envelope {namespaces}><References>{references}</References>'
        f'<DiskSection><Info/>{disks}</DiskSection><NetworkSection><Network ovf:name="VM Network"/></NetworkSection>'
        f"{systems}</Envelope>"
    ).encode()


def manifest(files: dict[str, bytes], *, kind: str = "sha256") -> bytes:
    lines = (f"{kind.upper()}({name})= {hashlib.new(kind, content).hexdigest()}\n" for name, content in files.items())
    return "".join(lines).encode()


def write_tar(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


class Appliances:
    """What tests make appliances with."""

    item = staticmethod(item)
    system = staticmethod(system)
    envelope = staticmethod(envelope)
    manifest = staticmethod(manifest)
    write_tar = staticmethod(write_tar)


@pytest.fixture
def make() -> type[Appliances]:
    return Appliances


@pytest.fixture
def ova_connection(tmp_path: Path) -> Connection:
    return Connection(conn_id="appliances", conn_type="ova", extra={"path": str(tmp_path)})


@pytest.fixture(scope="session")
def ovirt_running(tmp_path_factory):
    folder = tmp_path_factory.mktemp("engine")
    with ovirt_lab.engine(folder, data_centre(load=OVIRT_LOAD)) as engine:
        yield engine, folder / "pki" / "ca.crt"


@pytest.fixture
def ovirt(ovirt_running, monkeypatch):
    monkeypatch.setattr(session_module, "PAUSE_S", 0)
    monkeypatch.setattr(power_module.Power, "POLL_S", 0)
    found = ovirt_running[0]
    found.requests.clear()
    found.calls.clear()
    yield found
    found.faults.clear()
    found.power.deaf.clear()
    found.logins.serves = 0


@pytest.fixture
def to_ovirt(ovirt_running):
    return lambda **changed: ovirt_lab.connection(*ovirt_running, **changed)


@pytest.fixture(scope="session")
def ovirt_inventory(ovirt_running):
    with open_provider(ovirt_lab.connection(*ovirt_running)) as provider:
        return {vm.name: vm for vm in provider.vms() if vm.name != "twice"}
