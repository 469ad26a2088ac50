"""Virtual hardware → the device parts of a document: controllers, disks, NICs, with Forklift's attribute names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pyVmomi import vim

from mtv.providers.vmware import pci
from mtv.providers.vmware.collect import kind_of, moref
from mtv.providers.vmware.surroundings import Surroundings

BUS_ORDER = ("sata", "ide", "scsi", "nvme")
"""Disks are numbered bus by bus in this order, then by controller key, unit and key, after the one that boots."""

_DELTA = re.compile(r"-\d{6}(?=\.vmdk$)")
_DATASTORE_PATH = re.compile(r"^\[(?P<datastore>[^\]]*)\] ?(?P<path>.*)$", re.DOTALL)
_MAX_CHAIN = 256
_NIC_MODELS = {
    "VirtualVmxnet3": "vmxnet3",
    "VirtualVmxnet3Vrdma": "vmxnet3",
    "VirtualVmxnet2": "vmxnet2",
    "VirtualVmxnet": "vmxnet",
    "VirtualE1000": "e1000",
    "VirtualE1000e": "e1000e",
    "VirtualPCNet32": "pcnet32",
    "VirtualSriovEthernetCard": "sriov",
}


def split_datastore_path(file: str) -> tuple[str, str]:
    """Split `[datastore] folder/name.vmdk` into datastore and path; a text without brackets has no datastore."""
    match = _DATASTORE_PATH.match(file)
    return (match["datastore"], match["path"]) if match else ("", file)


def base_vmdk(file: str, chain: Sequence[str], *, has_snapshot: bool) -> str:
    """Return the path that names a disk for ever, whatever snapshots come and go.

    That is the root of the backing chain. Where vSphere shows no chain although the VM has a snapshot, the delta's
    `-000001` goes; a disk without snapshot keeps its name, because cloned disks may really be called so.
    """
    if chain:
        return chain[-1]
    return _DELTA.sub("", file) if has_snapshot else file


def backing_chain(backing: Any) -> list[str]:
    """Return the files below the current one, nearest parent first; empty without snapshots or linked clones."""
    files: list[str] = []
    parent = getattr(backing, "parent", None)
    while parent is not None and len(files) < _MAX_CHAIN:
        files.append(str(parent.fileName or ""))
        parent = getattr(parent, "parent", None)
    return files


def bus_of(controller: Any) -> str:
    """Return the bus of a controller: scsi, sata, ide or nvme; "" for other controllers."""
    if isinstance(controller, vim.vm.device.VirtualSCSIController):
        return "scsi"
    if isinstance(controller, vim.vm.device.VirtualSATAController):
        return "sata"
    if isinstance(controller, vim.vm.device.VirtualIDEController):
        return "ide"
    if isinstance(controller, vim.vm.device.VirtualNVMEController):
        return "nvme"
    return ""


def shared_bus(controller: Any) -> str:
    """Return how VMs share a SCSI controller's bus: noSharing, physicalSharing or virtualSharing; "" for others."""
    return str(getattr(controller, "sharedBus", None) or "")


def controllers(devices: Sequence[Any]) -> list[dict[str, Any]]:
    """Return the disk controllers with the keys of their disks."""
    return [
        {
            "key": device.key,
            "bus": bus_of(device),
            "busNumber": device.busNumber,
            "sharedBus": shared_bus(device),
            "disks": [
                disk.key
                for disk in devices
                if isinstance(disk, vim.vm.device.VirtualDisk) and disk.controllerKey == device.key
            ],
        }
        for device in devices
        if bus_of(device)
    ]


def boot_disk(boot_order: Sequence[Any] | None) -> int | None:
    """Return the key of the first disk of a VM's boot order, whatever else comes before it; None without one."""
    for entry in boot_order or ():
        if isinstance(entry, vim.vm.BootOptions.BootableDiskDevice):
            return int(entry.deviceKey)
    return None


def disks(
    devices: Sequence[Any],
    around: Surroundings,
    *,
    extra_config: Mapping[str, str],
    has_snapshot: bool,
    boots: int | None = None,
) -> list[dict[str, Any]]:
    """Return the disks in their order, the one with the key `boots` first.

    Sizes are bytes; `file` is the current file, `base` names the disk for ever.
    """
    owners = {device.key: device for device in devices if bus_of(device)}
    found = [
        _disk(device, owners.get(device.controllerKey), around, extra_config, has_snapshot)
        for device in devices
        if isinstance(device, vim.vm.device.VirtualDisk)
    ]
    return sorted(found, key=lambda disk: (disk["key"] != boots, _disk_order(disk)))


def _disk_order(disk: Mapping[str, Any]) -> tuple[int, int, int, int]:
    rank = BUS_ORDER.index(disk["bus"]) if disk["bus"] in BUS_ORDER else len(BUS_ORDER)
    return rank, disk["controllerKey"], disk["unitNumber"], disk["key"]


def _disk(
    device: Any, owner: Any, around: Surroundings, extra_config: Mapping[str, str], has_snapshot: bool
) -> dict[str, Any]:
    backing = device.backing
    file = str(getattr(backing, "fileName", None) or "")
    chain = backing_chain(backing)
    bus = bus_of(owner)
    unit = device.unitNumber if device.unitNumber is not None else 0
    slot = f"{bus}{owner.busNumber if owner is not None else 0}:{unit}"
    change_id = str(getattr(backing, "changeId", None) or "")
    sharing = str(getattr(backing, "sharing", None) or "")
    rdm = isinstance(
        backing,
        (
            vim.vm.device.VirtualDisk.RawDiskMappingVer1BackingInfo,
            vim.vm.device.VirtualDisk.RawDiskVer2BackingInfo,
        ),
    )
    datastore_id = moref(getattr(backing, "datastore", None))
    capacity = device.capacityInBytes
    return {
        "key": device.key,
        "unitNumber": unit,
        "controllerKey": device.controllerKey or 0,
        "bus": bus,
        "slot": slot,
        "file": file,
        "parent": chain[-1] if chain else "",
        "depth": len(chain),
        "base": base_vmdk(file, chain, has_snapshot=has_snapshot),
        "backing": kind_of(backing),
        "datastore": {"id": datastore_id, "name": split_datastore_path(file)[0] or around.name(datastore_id)},
        "capacity": int(capacity if capacity is not None else (device.capacityInKB or 0) * 1024),
        # Nodes of a cluster share a bus; their disks say sharingNone, for that is about several writers of one file.
        "shared": sharing not in ("", "sharingNone") or shared_bus(owner) not in ("", "noSharing"),
        "rdm": rdm,
        "physicalMode": rdm and getattr(backing, "compatibilityMode", None) == "physicalMode",
        "mode": str(getattr(backing, "diskMode", None) or ""),
        "serial": str(getattr(backing, "uuid", None) or ""),
        "changeTrackingEnabled": extra_config.get(f"{slot}.ctkenabled", "").lower() == "true" or bool(change_id),
        "changeId": change_id,
        "deviceName": str(getattr(backing, "deviceName", None) or ""),
        "lunUuid": str(getattr(backing, "lunUuid", None) or ""),
        "vvolId": str(getattr(backing, "backingObjectId", None) or ""),
        "encrypted": getattr(backing, "keyId", None) is not None,
    }


def nics(
    devices: Sequence[Any], around: Surroundings, bridges: Sequence[Mapping[str, Any]] = ()
) -> list[dict[str, Any]]:
    """Return the network cards in the order of their device keys; PCI addresses are as guests see them."""
    cards = sorted(
        (device for device in devices if isinstance(device, vim.vm.device.VirtualEthernetCard)),
        key=lambda card: int(card.key),
    )
    return [
        {
            "order": order,
            "deviceKey": card.key,
            "mac": str(card.macAddress or "").lower(),
            "pciAddress": pci.address(_slot(card), bridges),
            "model": _NIC_MODELS.get(kind_of(card), kind_of(card)),
            "startConnected": bool(card.connectable.startConnected) if card.connectable is not None else True,
            "network": around.reference(network) if (network := _network(card.backing, around)) else _named(card),
        }
        for order, card in enumerate(cards)
    ]


def _network(backing: Any, around: Surroundings) -> str:
    if isinstance(backing, vim.vm.device.VirtualEthernetCard.DistributedVirtualPortBackingInfo):
        return around.portgroup(str(backing.port.portgroupKey or ""))
    if isinstance(backing, vim.vm.device.VirtualEthernetCard.OpaqueNetworkBackingInfo):
        return around.opaque_network(str(backing.opaqueNetworkId or ""))
    reference = moref(getattr(backing, "network", None))
    return reference or around.network_named(str(getattr(backing, "deviceName", None) or ""))


def _named(card: Any) -> dict[str, str]:
    return {"id": "", "name": str(getattr(card.backing, "deviceName", None) or "")}


def other_devices(devices: Sequence[Any]) -> list[dict[str, Any]]:
    """Return kind and key of every device, and the PCI slot of those that have one."""
    return [
        {"kind": kind_of(device), "key": device.key}
        | ({} if (slot := _slot(device)) is None else {"pciSlotNumber": slot})
        for device in devices
    ]


def _slot(device: Any) -> int | None:
    return getattr(device.slotInfo, "pciSlotNumber", None)
