"""How a mover pod reads a disk of a powered-off VM. Pure.

The rule of `auto`: the `/folder` URL of the flat file where that file holds the whole disk, because it serves ranges
of a disk of any size (thin ones too) and a copy can resume in it; an NFC export lease otherwise:

- snapshots or a linked clone: the disk is a chain of deltas, and the flat file is only its base;
- a backing other than a flat VMDK, such as a virtual-mode RDM: there is no flat file;
- a vSAN or vVol datastore: the descriptor is a file there, its extent is an object.

A physical-mode RDM can be read by neither, nor a disk of an encrypted VM: its file holds ciphertext, and no lease is
given for it.
"""

from __future__ import annotations

from typing import Any

from mtv.model.errors import PermanentError
from mtv.model.source import SourceDisk, SourceVm
from mtv.model.transfer import VsphereDatastore, VsphereNfc
from mtv.providers.vmware.devices import split_datastore_path

_FLAT_BACKINGS = ("FlatVer2BackingInfo", "FlatVer1BackingInfo")
_OBJECT_DATASTORES = ("vsan", "vvol")


def flat_path(file: str) -> tuple[str, str]:
    """Return (datastore, path of the flat extent) of `[datastore] folder/name.vmdk`."""
    datastore, path = split_datastore_path(file)
    if not datastore or not path.endswith(".vmdk"):
        raise PermanentError(f"{file!r} is no path of a virtual disk", code="DiskPathUnknown")
    return datastore, path.removesuffix(".vmdk") + "-flat.vmdk"


def why_not_flat(locator: dict[str, Any]) -> str:
    """Say why the flat file does not hold the whole disk; "" when it does."""
    if locator["snapshot"] or locator["chained"]:
        return "the VM has a snapshot or is a linked clone"
    if locator["backing"] not in _FLAT_BACKINGS:
        return f"its backing is {locator['backing']}"
    if str(locator["datastore_type"]).lower() in _OBJECT_DATASTORES:
        return f"its datastore is of type {locator['datastore_type']}"
    return ""


def disk_source(
    vm: SourceVm, disk: SourceDisk, *, transport: str, host: str, port: int, thumbprint: str, insecure: bool
) -> VsphereDatastore | VsphereNfc:
    """Return the wire type for a disk. `transport` is auto, datastore or nfc."""
    locator = disk.locator
    what = f"disk {disk.id} of {vm.name}"
    if locator["physical_rdm"]:
        raise PermanentError(
            f"{what} is a raw device mapping in physical mode, which vSphere does not let anybody read",
            cure="change it to virtual mode, or leave it out",
            code="PhysicalRdm",
        )
    if locator.get("encrypted"):
        raise PermanentError(
            f"{what} is encrypted by vSphere: its file holds ciphertext",
            cure="give it a storage policy without encryption",
            code="DiskEncrypted",
        )
    if transport not in ("auto", "datastore", "nfc"):
        raise PermanentError(f"transport {transport!r} is not one of auto, datastore, nfc", code="TransportUnknown")
    reason = why_not_flat(locator)
    if transport == "datastore" and reason:
        raise PermanentError(
            f"{what} cannot be read from the datastore: {reason}",
            cure="say transport: auto or nfc",
            code="FlatFileIncomplete",
        )
    if transport == "nfc" or reason:
        return VsphereNfc(
            host=host, port=port, vm=vm.id, disk_key=int(locator["key"]), thumbprint=thumbprint, insecure=insecure
        )
    datastore, path = flat_path(locator["file"])
    return VsphereDatastore(
        host=host,
        port=port,
        datacenter=locator["datacenter"],
        datastore=datastore,
        path=path,
        vm=vm.id,
        disk_key=int(locator["key"]),
        thumbprint=thumbprint,
        insecure=insecure,
    )
