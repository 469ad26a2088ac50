"""Where disks and cards of a VM go: the plan's maps applied to one VM. Nearest wins: VM option, source key, `*`."""

from __future__ import annotations

import re

from mtv.model.errors import PermanentError
from mtv.model.plan import EffectiveVm, NetworkTarget, Plan, StorageTarget
from mtv.model.source import SourceDisk, SourceNic, SourceVm

ANY = "*"

_DEVICE = re.compile(r"/dev/(sd|vd|xvd)(?P<letter>[a-z])(?P<partition>[0-9]*)")


def storage_target(plan: Plan, vm: EffectiveVm, disk: SourceDisk) -> StorageTarget:
    """Return where `disk` goes. Raises `PermanentError` naming the datastore that no map row covers."""
    mapped = plan.storage_map.get(disk.storage) or plan.storage_map.get(ANY)
    storage_class = vm.storage_class or (mapped.storage_class if mapped else None)
    if storage_class is None:
        raise PermanentError(
            f"{vm.name}: disk {disk.id} lies on {disk.storage!r}, which the storage map does not name",
            cure=f'add {disk.storage!r} or "*" to storage_map',
            code="storage-unmapped",
        )
    # What the map says about modes belongs to the map's class, not to a class that the VM chose for itself.
    keeps = mapped is not None and mapped.storage_class == storage_class
    return StorageTarget(
        storage_class=storage_class,
        volume_mode=vm.volume_mode or (mapped.volume_mode if mapped and keeps else None),
        access_mode=mapped.access_mode if mapped and keeps else None,
    )


def network_target(plan: Plan, vm: EffectiveVm, nic: SourceNic) -> NetworkTarget:
    """Return where `nic` goes. Raises `PermanentError` naming the network that no map row covers.

    The VM's option `network` is `pod`, `ignored`, or the name of a NetworkAttachmentDefinition.
    """
    if vm.network is not None:
        if vm.network == "pod":
            return NetworkTarget(type="pod")
        if vm.network == "ignored":
            return NetworkTarget(type="ignored")
        return NetworkTarget(type="multus", name=vm.network)
    mapped = plan.network_map.get(nic.network) or plan.network_map.get(ANY)
    if mapped is None:
        raise PermanentError(
            f"{vm.name}: card {nic.index} is on {nic.network!r}, which the network map does not name",
            cure=f'add {nic.network!r} or "*" to network_map',
            code="network-unmapped",
        )
    return mapped


def root_disk(vm: SourceVm, wanted: str) -> SourceDisk:
    """Return the disk that boots: `wanted` is its id, its index as text, or a device of the guest such as `/dev/sdb1`.

    Without a wish the first. Raises `PermanentError` when the VM has no disk or no such disk.
    """
    if not vm.disks:
        raise PermanentError(f"{vm.name} has no disk to boot from", code="no-disk")
    if not wanted:
        return min(vm.disks, key=lambda disk: disk.index)
    device = _DEVICE.fullmatch(wanted)
    index = str(ord(device["letter"]) - ord("a")) if device else wanted
    for disk in vm.disks:
        if disk.id == wanted or str(disk.index) == index:
            return disk
    raise PermanentError(
        f"{vm.name}: root_disk {wanted!r} is none of its disks ({', '.join(disk.id for disk in vm.disks)})",
        cure="name the disk's id, its index, or a device such as /dev/sda",
        code="root-disk-unknown",
    )


def root_partition(wanted: str) -> str:
    """Return the root partition that `wanted` names, as the conversion sees it, where the root disk comes first.

    Empty when `wanted` names no partition: then virt-v2v finds the guest's root itself.
    """
    device = _DEVICE.fullmatch(wanted)
    return f"/dev/sda{device['partition']}" if device and device["partition"] else ""
