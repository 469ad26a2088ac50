"""The demo's inventory: a small data centre with three guests that run for real and VMs that rules have opinions on."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import NAMESPACE_DNS, uuid5

from lab.guests.image import GuestImage, copy_image, guest_image
from lab.guests.spec import GuestSpec

ADMINISTRATOR = "administrator@vsphere.local"
READER = "reader@vsphere.local"
GUESTS = (
    GuestSpec(hostname="web-1", root_mb=192, payload_mb=16, data_mb=64, data_payload_mb=20),
    GuestSpec(hostname="db-1", root_mb=192, payload_mb=16, address="10.0.2.16/24"),
    GuestSpec(hostname="full-1", root_mb=192, payload_mb=4, address="10.0.2.17/24", full=True),
)
_READER_LACKS = [
    "VirtualMachine.State.CreateSnapshot",
    "VirtualMachine.State.RemoveSnapshot",
    "VirtualMachine.Interact.PowerOn",
    "VirtualMachine.Interact.PowerOff",
    "VirtualMachine.Config.Settings",
    "VApp.Export",
    "Datastore.Browse",
    "VirtualMachine.Provisioning.DiskRandomRead",
]

Document = dict[str, Any]


def build_images() -> dict[str, GuestImage]:
    """Images of the guests, from the cache."""
    return {spec.hostname: guest_image(spec) for spec in GUESTS}


def copy_images(folder: Path) -> dict[str, GuestImage]:
    """Fresh private copies of the guests' disks below `folder`: each start of the lab begins with the same bytes."""
    return {name: copy_image(image, folder / name) for name, image in build_images().items()}


def inventory(images: dict[str, GuestImage], passwords: dict[str, Path], scratch: Path, hook: list[str]) -> Document:
    """The inventory file of the server. `passwords` maps user names to files; the first user is the administrator."""
    denied = {READER: _READER_LACKS}
    return {
        "Users": [
            {"Name": name, "PasswordFile": str(file), "Deny": denied.get(name, [])} for name, file in passwords.items()
        ],
        "Scratch": str(scratch),
        "Hook": hook,
        "Datacenters": [
            {
                "Name": "dc1",
                "Folders": ["prod", "prod/web", "templates"],
                "Datastores": ["ds-gold", "ds-silver"],
                "Networks": ["VM Network"],
                "Portgroups": ["dvpg-app"],
                "Clusters": [{"Name": "cl1", "Hosts": ["esx-1.lab", "esx-2.lab"]}],
            }
        ],
        "VMs": [*_real_vms(images), *_vms_for_rules()],
    }


def _real_vms(images: dict[str, GuestImage]) -> list[Document]:
    web, db, full = images["web-1"], images["db-1"], images["full-1"]
    return [
        _vm(
            "web-1",
            number=1,
            Folder="prod/web",
            Host="esx-1.lab",
            Datastore="ds-gold",
            PowerOn=True,
            Real=True,
            CBT=True,
            Disks=[{"File": str(web.root)}, {"File": str(web.data), "Datastore": "ds-silver"}],
            Tags={"tier": "web"},
            Attributes={"owner": "shop"},
        ),
        _vm(
            "db-1",
            number=2,
            Folder="prod",
            Host="esx-2.lab",
            Datastore="ds-silver",
            Real=True,
            CBT=True,
            Disks=[{"File": str(db.root)}],
            Tags={"tier": "database"},
        ),
        _vm(
            "full-1",
            number=3,
            Host="esx-2.lab",
            Datastore="ds-silver",
            Real=True,
            CBT=True,
            Disks=[{"File": str(full.root)}],
        ),
    ]


def _vms_for_rules() -> list[Document]:
    """VMs that cannot be moved, or not without thought, each for one reason. Their disks are empty and nothing runs."""
    small = {"SizeMB": 8}
    return [
        _vm("Legacy_App.01", number=11, Disks=[small], NICs=[{"MAC": _mac(11), "Network": "dvpg-app"}]),
        _vm("shared-1", number=12, CBT=True, Disks=[small, {**small, "Shared": True}]),
        _vm("rdm-1", number=13, Disks=[small, {**small, "RDM": "physical:02000100006000d3100049a2"}]),
        _vm("independent-1", number=14, CBT=True, Disks=[small, {**small, "Mode": "independent_persistent"}]),
        _vm("secure-1", number=15, CBT=True, Disks=[small], Firmware="efi", SecureBoot=True, TPM=True),
        _vm("no-cbt-1", number=16, Disks=[small]),
        _vm("snapshot-1", number=17, CBT=True, Disks=[small], Snapshots=["before-update"]),
        _vm("template-1", number=18, Folder="templates", Disks=[small], Template=True),
        _vm(
            "windows-1",
            number=19,
            PowerOn=True,
            CBT=True,
            Disks=[{**small, "Controller": "lsilogic-sas"}],
            GuestID="windows2019srv_64Guest",
            GuestName="Microsoft Windows Server 2019 (64-bit)",
            NICs=[{"MAC": _mac(19), "Network": "dvpg-app", "Model": "e1000e", "IPs": ["10.20.0.19"]}],
        ),
        _vm("no-disk-1", number=20, Disks=[]),
    ]


def _vm(name: str, *, number: int, **options: Any) -> Document:
    """A VM with the usual values; `number` makes its MAC address, and its name makes its UUIDs."""
    defaults: Document = {
        "Name": name,
        "Folder": "prod",
        "Host": "esx-1.lab",
        "Datastore": "ds-gold",
        "Hostname": name,
        "GuestID": "debian12_64Guest",
        "GuestName": "Debian GNU/Linux 12 (64-bit)",
        "UUID": str(uuid5(NAMESPACE_DNS, f"bios.{name}.lab")),
        "InstanceUUID": str(uuid5(NAMESPACE_DNS, f"instance.{name}.lab")),
        "CPUs": 1,
        "MemoryMB": 256,
        "NICs": [{"MAC": _mac(number), "Network": "VM Network", "IPs": [f"10.0.2.{14 + number}"]}],
    }
    return defaults | options


def _mac(number: int) -> str:
    return f"00:50:56:00:01:{number:02x}"
