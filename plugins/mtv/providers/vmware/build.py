"""Collected properties → `SourceVm` and its document. Pure: nothing here speaks to vCenter.

Properties that vSphere leaves unset get the empty value of their type in the document ("" , 0, false, []), as in
Forklift's inventory, so that rules written for one read the other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from pyVmomi import vim

from mtv.model.source import Firmware, PowerState, SourceDisk, SourceNic, SourceVm
from mtv.providers.vmware import devices as hardware
from mtv.providers.vmware import pci
from mtv.providers.vmware.collect import Found, kind_of, moref
from mtv.providers.vmware.generation import generation
from mtv.providers.vmware.guest import guest_apps, guest_disks, guest_ip_stacks, guest_networks, with_drive_letters
from mtv.providers.vmware.surroundings import Surroundings, readable_name
from mtv.providers.vmware.unreadable import without

PROVIDER = "vmware"

_POWER = {"poweredOn": PowerState.ON, "poweredOff": PowerState.OFF, "suspended": PowerState.SUSPENDED}


def power_state(value: object) -> PowerState:
    """Return vSphere's power state in our words."""
    return _POWER.get(str(value), PowerState.UNKNOWN)


class Draft(NamedTuple):
    """A VM's document before it is known which disks it shares, and its configuration's version."""

    document: dict[str, Any]
    change_version: str


def drafts_of(found: Iterable[Found], around: Surroundings, field_names: Mapping[int, str]) -> list[Draft]:
    """Return what can be said of each VM by itself; vSphere's objects are not needed any more.

    `field_names` are those of custom attributes, by key.
    """
    return [
        Draft(_document(entry, around, field_names), str(entry.properties.get("config.changeVersion", "")))
        for entry in found
    ]


def finish(drafts: Sequence[Draft], around: Surroundings, power_ons: Mapping[str, str]) -> list[SourceVm]:
    """Build the VMs, in the order of their inventory paths.

    A disk counts as shared when its sharing mode or its bus says so, or when its file or its LUN belongs to several of
    these VMs.
    """
    documents = [draft.document for draft in drafts]
    users = Counter(held for document in documents for held in set().union(*map(_holds, document["disks"])))
    for document in documents:
        for disk in document["disks"]:
            disk["shared"] = disk["shared"] or any(users[held] > 1 for held in _holds(disk))
    built = [
        _source_vm(document, around, change_version=version, power_on=power_ons.get(document["id"], ""))
        for document, version in drafts
    ]
    return sorted(built, key=lambda vm: (vm.document["path"], vm.id))


def _holds(disk: Mapping[str, Any]) -> set[tuple[str, str]]:
    """Return what others may hold as well: a disk's file, and the LUN behind it, to which each VM may map its own."""
    return {(key, disk[key]) for key in ("file", "lunUuid") if disk[key]}


def _document(entry: Found, around: Surroundings, field_names: Mapping[int, str]) -> dict[str, Any]:
    own = entry.properties
    name = readable_name(own.get("name", ""))
    parent = own.get("parentVApp") or own.get("parent")  # a VM of a vApp has no parent of its own
    parent_id, host_id = moref(parent), moref(own.get("runtime.host"))
    device_list = list(own.get("config.hardware.device") or ())
    extra = {str(option.key).lower(): str(option.value) for option in own.get("config.extraConfig") or ()}
    snapshot = own.get("snapshot")
    current = snapshot.currentSnapshot if snapshot is not None else None
    affinity = own.get("config.cpuAffinity")
    above = around.path(parent_id)
    numa = extra.get("numa.nodeaffinity", "")
    bridges = pci.bridges(extra)
    file_systems = guest_disks(own.get("guest.disk"))
    return {
        "id": entry.id,
        "name": name,
        "path": f"{above}/{name}" if above else name,
        "parent": {"kind": kind_of(parent) if parent is not None else "", "id": parent_id},
        "folder": around.folder_of(parent_id) or parent_id,
        "datacenter": around.reference(around.datacenter_of(parent_id) or around.datacenter_of(host_id)),
        "host": around.host_of_vm(host_id, entry.id),
        "uuid": _text(own, "config.uuid"),
        "instanceUuid": _text(own, "config.instanceUuid"),
        "firmware": _text(own, "config.firmware"),
        "secureBoot": bool(own.get("config.bootOptions.efiSecureBootEnabled", False)),
        "powerState": _text(own, "runtime.powerState"),
        "connectionState": _text(own, "runtime.connectionState"),
        "isTemplate": bool(own.get("config.template", False)),
        "snapshot": {"kind": kind_of(current) if current is not None else "", "id": moref(current)},
        "changeTrackingEnabled": bool(own.get("config.changeTrackingEnabled", False)),
        "consolidationNeeded": bool(own.get("runtime.consolidationNeeded", False)),
        "faultToleranceEnabled": _text(own, "runtime.faultToleranceState") in ("enabled", "running", "starting"),
        "cpuAffinity": list(affinity.affinitySet or ()) if affinity is not None else [],
        "cpuHotAddEnabled": bool(own.get("config.cpuHotAddEnabled", False)),
        "cpuHotRemoveEnabled": bool(own.get("config.cpuHotRemoveEnabled", False)),
        "memoryHotAddEnabled": bool(own.get("config.memoryHotAddEnabled", False)),
        "nestedHVEnabled": bool(own.get("config.nestedHVEnabled", False)),
        "numaNodeAffinity": [node.strip() for node in numa.split(",") if node.strip()],
        "cpuCount": int(own.get("config.hardware.numCPU", 0)),
        "coresPerSocket": int(own.get("config.hardware.numCoresPerSocket", 0)),
        "memoryMB": int(own.get("config.hardware.memoryMB", 0)),
        "balloonedMemory": int(own.get("summary.quickStats.balloonedMemory", 0)),
        "storageUsed": int(own.get("summary.storage.committed", 0)),
        "guestId": _text(own, "config.guestId"),
        "guestName": _text(own, "config.guestFullName"),
        "guestNameFromVmwareTools": _text(own, "guest.guestFullName"),
        "hostName": _text(own, "guest.hostName"),
        "ipAddress": _text(own, "guest.ipAddress"),
        "toolsStatus": _text(own, "guest.toolsStatus"),
        "toolsRunningStatus": _text(own, "guest.toolsRunningStatus"),
        "toolsVersionStatus2": _text(own, "guest.toolsVersionStatus2"),
        "diskEnableUuid": bool(own.get("config.flags.diskUuidEnabled", False))
        or extra.get("disk.enableuuid", "").lower() == "true",
        "tpmEnabled": any(isinstance(device, vim.vm.device.VirtualTPM) for device in device_list),
        "devices": hardware.other_devices(device_list),
        "controllers": hardware.controllers(device_list),
        "disks": with_drive_letters(
            hardware.disks(
                device_list,
                around,
                extra_config=extra,
                has_snapshot=current is not None,
                boots=hardware.boot_disk(own.get("config.bootOptions.bootOrder")),
            ),
            file_systems,
        ),
        "pciBridges": bridges,
        "nics": hardware.nics(device_list, around, bridges),
        "networks": [around.reference(moref(network)) for network in own.get("network") or ()],
        "guestNetworks": guest_networks(own.get("guest.net")),
        "guestIpStacks": guest_ip_stacks(own.get("guest.ipStack")),
        "guestDisks": file_systems,
        "guestApps": guest_apps(extra.get("guestinfo.appinfo", "")),
        "customValues": [
            {"key": one.key, "name": field_names.get(one.key, ""), "value": one.value}
            for one in own.get("customValue") or ()
        ],
        "unreadable": list(entry.unreadable),
        "missingPrivileges": list(entry.privileges),
    }


def _text(own: Mapping[str, Any], path: str) -> str:
    value = own.get(path)
    return "" if value is None else str(value)


def _source_vm(document: dict[str, Any], around: Surroundings, *, change_version: str, power_on: str) -> SourceVm:
    datacenter = around.path(document["datacenter"]["id"], escaped=True)
    return SourceVm(
        provider=PROVIDER,
        id=document["id"],
        name=document["name"],
        uuid=document["uuid"],
        power=power_state(document["powerState"]),
        cpu_count=document["cpuCount"],
        cores_per_socket=document["coresPerSocket"] or 1,
        memory_bytes=document["memoryMB"] << 20,
        firmware=Firmware.EFI if document["firmware"] == "efi" else Firmware.BIOS,
        secure_boot=document["secureBoot"],
        tpm=document["tpmEnabled"],
        guest_os=document["guestNameFromVmwareTools"] or document["guestName"],
        is_template=document["isTemplate"],
        host=document["host"]["name"],
        disks=tuple(
            _source_disk(index, disk, document, around, datacenter, change_version=change_version, power_on=power_on)
            for index, disk in enumerate(document["disks"])
        ),
        nics=tuple(_source_nics(document["nics"])),
        document=without(document, document["unreadable"]),
    )


def _source_disk(
    index: int,
    disk: Mapping[str, Any],
    document: Mapping[str, Any],
    around: Surroundings,
    datacenter: str,
    *,
    change_version: str,
    power_on: str,
) -> SourceDisk:
    place = f"{document['instanceUuid'] or document['uuid']}/{disk['key']}"
    by_path = f"{place}/{disk['base']}"
    # The path changes when the disk is moved to another datastore, its UUID does not. Copies made by hand share a UUID,
    # but not a VM and a key in it.
    identity = f"{place}/{disk['serial']}" if disk["serial"] else by_path
    return SourceDisk(
        id=str(disk["key"]),
        index=index,
        size_bytes=disk["capacity"],
        bus=disk["bus"],
        identity=identity,
        former_identities=() if identity == by_path else (by_path,),
        generation=generation(disk["changeId"], change_version=change_version, power_on=power_on),
        storage=disk["datastore"]["name"],
        locator={
            "datacenter": datacenter,
            "file": disk["file"],
            "key": disk["key"],
            "backing": disk["backing"],
            "chained": bool(disk["parent"]),
            "snapshot": bool(document["snapshot"]["id"]),
            "physical_rdm": disk["physicalMode"],
            "rdm": disk["rdm"],
            "encrypted": disk["encrypted"],
            "datastore_type": around.datastore_type(disk["datastore"]["id"]),
        },
        serial=disk["serial"],
        shared=disk["shared"],
    )


def _source_nics(nics: Iterable[Mapping[str, Any]]) -> Iterable[SourceNic]:
    for nic in nics:
        yield SourceNic(
            index=nic["order"],
            network=nic["network"]["name"],
            mac=nic["mac"],
            model=nic["model"],
            connected=nic["startConnected"],
        )
