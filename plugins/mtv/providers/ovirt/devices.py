"""What lies below a VM → the parts of its document, with the attribute names of the rules."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from ovirtsdk4 import types

from mtv.providers.ovirt.surroundings import Surroundings, id_of, properties, text

_NUMBER = re.compile(r"(\d+)")


def disk_attachments(found: Iterable[Any], around: Surroundings) -> list[dict[str, Any]]:
    """Return the disks, the bootable one first, the others by name (`web_Disk2` before `web_Disk10`); sizes in bytes.

    An engine says no order, and the name of a device in the guest is known only while it runs. Deactivated ones come
    last: the guest does not count them, nor boot from them.
    """
    rows = [_disk_attachment(each, around) for each in found]
    return sorted(
        rows, key=lambda row: (not row["active"], not row["bootable"], _natural(row["disk"]["name"]), row["id"])
    )


def _disk_attachment(attachment: Any, around: Surroundings) -> dict[str, Any]:
    return {
        "id": text(attachment.id),
        "interface": text(attachment.interface),
        "bootable": bool(attachment.bootable),
        "active": attachment.active is not False,  # one of which nothing is told is not called deactivated
        "scsiReservation": bool(attachment.uses_scsi_reservation),
        # Of a disk that the user may not see nothing but its id is told; its size of 0 and its kind then block the VM.
        "disk": _disk(attachment.disk or types.Disk(id=attachment.id), around),
    }


def _disk(disk: Any, around: Surroundings) -> dict[str, Any]:
    domains = [id_of(domain) for domain in disk.storage_domains or ()] or [id_of(disk.storage_domain)]
    row = {
        "id": text(disk.id),
        "name": text(disk.name or disk.alias),
        "status": text(disk.status),
        "storageType": text(disk.storage_type),
        "provisionedSize": disk.provisioned_size or 0,
        "actualSize": disk.actual_size or 0,
        "shared": bool(disk.shareable),
        "backup": text(disk.backup),
        "format": text(disk.format),
        "image": text(disk.image_id),
        "profile": around.disk_profile(id_of(disk.disk_profile)),
        "storageDomain": around.storage_domain(domains[0]),
    }
    if disk.lun_storage is not None:
        row["lun"] = {"logicalUnits": {"logicalUnit": [_unit(unit) for unit in disk.lun_storage.logical_units or ()]}}
    return row


def _unit(unit: Any) -> dict[str, Any]:
    return {
        "lunId": text(unit.id),
        "address": text(unit.address),
        "port": unit.port or 0,
        "target": text(unit.target),
        "lunMapping": unit.lun_mapping or 0,
        "size": unit.size or 0,
    }


def lun_bytes(disk: Mapping[str, Any]) -> int:
    """Return the size of a disk that is a LUN, 0 when it is none or the engine does not say."""
    units = disk.get("lun", {}).get("logicalUnits", {}).get("logicalUnit", [])
    return sum(int(unit["size"]) for unit in units)


def nics(found: Iterable[Any], reported: Iterable[Any], around: Surroundings) -> list[dict[str, Any]]:
    """Return the network cards by name; MAC in lower case, addresses as the guest agent told them."""
    addresses: dict[str, list[str]] = {}
    for device in reported:
        if device.mac is not None:
            ips = [text(ip.address) for ip in device.ips or ()]
            addresses.setdefault(text(device.mac.address).lower(), []).extend(ips)
    rows = [_nic(each, addresses, around) for each in found]
    return sorted(rows, key=lambda row: (_natural(row["name"]), row["id"]))


def _nic(card: Any, addresses: Mapping[str, list[str]], around: Surroundings) -> dict[str, Any]:
    mac = text(card.mac.address).lower() if card.mac is not None else ""
    return {
        "id": text(card.id),
        "name": text(card.name),
        "interface": text(card.interface),
        "plugged": bool(card.plugged),
        "linked": bool(card.linked) if card.linked is not None else True,
        "mac": mac,
        "ipAddress": addresses.get(mac, []),
        "profile": around.nic_profile(id_of(card.vnic_profile)),
    }


def snapshots(found: Iterable[Any]) -> list[dict[str, Any]]:
    """Return the snapshots, the active one (type active) among them."""
    return [
        {
            "id": text(each.id),
            "description": text(each.description),
            "type": text(each.snapshot_type),
            "persistMemory": bool(each.persist_memorystate),
        }
        for each in found
    ]


def watchdogs(found: Iterable[Any]) -> list[dict[str, Any]]:
    """Return the watchdogs."""
    return [{"id": text(each.id), "action": text(each.action), "model": text(each.model)} for each in found]


def cdroms(found: Iterable[Any]) -> list[dict[str, Any]]:
    """Return the CD drives with the image that lies in them."""
    return [{"id": text(each.id), "file": id_of(each.file)} for each in found]


def host_devices(found: Iterable[Any]) -> list[dict[str, Any]]:
    """Return the devices that are passed through from the host."""
    return [
        {
            "capability": text(each.capability),
            "product": text(each.product.name) if each.product is not None else "",
            "vendor": text(each.vendor.name) if each.vendor is not None else "",
        }
        for each in found
    ]


def numa_ties(found: Iterable[Any]) -> list[dict[str, Any]]:
    """Return the virtual NUMA nodes that are tied to nodes of the host, with those nodes."""
    return [
        {"index": node.index or 0, "hostNodes": [pin.index for pin in node.numa_node_pins]}
        for node in found
        if node.numa_node_pins
    ]


def vcpu_ties(cpu: Any) -> list[dict[str, Any]]:
    """Return which CPUs of the host each virtual CPU is tied to."""
    tune = cpu.cpu_tune if cpu is not None else None
    pins = tune.vcpu_pins if tune is not None else None
    return [{"set": text(pin.cpu_set), "cpu": pin.vcpu or 0} for pin in pins or ()]


def custom_properties(vm: Any) -> list[dict[str, str]]:
    """Return the VM's custom properties."""
    return properties(vm.custom_properties)


def _natural(name: str) -> list[tuple[int, str]]:
    """Return a key by which names sort as people count."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in _NUMBER.split(name) if part]
