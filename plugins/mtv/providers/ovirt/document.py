"""A VM as read → its document: the attributes that rules and conditions are written in. Pure.

Sizes are bytes. What the engine leaves unset gets the empty value of its type; what the user may not read is left out,
so that rules about it stay silent, and is named in `unreadable`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mtv.providers.ovirt import devices as hardware
from mtv.providers.ovirt.collect import NUMA, Found
from mtv.providers.ovirt.surroundings import Surroundings, id_of, text


def document_of(found: Found, around: Surroundings) -> dict[str, Any]:
    """Return the document of a VM with its parents resolved."""
    vm = found.vm
    cluster = around.cluster(id_of(vm.cluster))
    data_center = cluster.get("dataCenter", {"id": "", "name": ""})
    above = [name for name in (data_center["name"], cluster["name"]) if name]
    cpu, guest = vm.cpu, vm.guest_operating_system
    topology = cpu.topology if cpu is not None else None
    return {
        "id": text(vm.id),
        "name": text(vm.name),
        "path": "/".join([*above, text(vm.name)]),
        "status": text(vm.status),
        "cluster": cluster,
        "dataCenter": data_center,
        "host": around.host(id_of(vm.host)),
        "template": id_of(vm.template),
        "origin": text(vm.origin),
        "osType": text(vm.os.type) if vm.os is not None else "",
        "guestName": _guest_name(guest),
        "guest": {
            "distribution": text(guest.distribution) if guest is not None else "",
            "fullVersion": text(guest.version.full_version) if guest is not None and guest.version else "",
        },
        "hostName": text(vm.fqdn),
        "cpuSockets": _count(topology, "sockets"),
        "cpuCores": _count(topology, "cores"),
        "cpuThreads": _count(topology, "threads"),
        "cpuAffinity": hardware.vcpu_ties(cpu),
        "cpuPinningPolicy": text(vm.cpu_pinning_policy) or "none",
        "cpuShares": vm.cpu_shares or 0,
        "customCpuModel": text(vm.custom_cpu_model),
        "memory": vm.memory or 0,
        "balloonedMemory": bool(vm.memory_policy is not None and vm.memory_policy.ballooning),
        "bios": _bios(vm, cluster),
        "bootMenuEnabled": bool(vm.bios is not None and vm.bios.boot_menu is not None and vm.bios.boot_menu.enabled),
        "display": _display(vm),
        "ioThreads": (vm.io.threads or 0) if vm.io is not None else 0,
        "storageErrorResumeBehaviour": text(vm.storage_error_resume_behaviour) or "auto_resume",
        "haEnabled": bool(vm.high_availability is not None and vm.high_availability.enabled),
        "usbEnabled": bool(vm.usb is not None and vm.usb.enabled),
        "placementPolicyAffinity": text(vm.placement_policy.affinity) if vm.placement_policy is not None else "",
        "timezone": text(vm.time_zone.name) if vm.time_zone is not None else "",
        "stateless": bool(vm.stateless),
        "serialNumber": text(vm.serial_number.value) if vm.serial_number is not None else "",
        "tpmEnabled": bool(vm.tpm_enabled),
        "hasIllegalImages": bool(vm.has_illegal_images),
        "leaseStorageDomain": id_of(vm.lease.storage_domain) if vm.lease is not None else "",
        "properties": hardware.custom_properties(vm),
        "startTime": _moment(vm.start_time),
        "stopTime": _moment(vm.stop_time),
        **_parts(found, around),
        "unreadable": sorted({*found.unreadable, *around.unreadable}),
    }


def _parts(found: Found, around: Surroundings) -> dict[str, Any]:
    """Return what lies below the VM, without what could not be read."""
    vm = found.vm
    makers: dict[str, tuple[str, Callable[[], Any]]] = {
        "disk_attachments": (
            "diskAttachments",
            lambda: hardware.disk_attachments(vm.disk_attachments or (), around),
        ),
        "nics": ("nics", lambda: hardware.nics(vm.nics or (), vm.reported_devices or (), around)),
        "snapshots": ("snapshots", lambda: hardware.snapshots(vm.snapshots or ())),
        "watchdogs": ("watchDogs", lambda: hardware.watchdogs(vm.watchdogs or ())),
        "cdroms": ("cdroms", lambda: hardware.cdroms(vm.cdroms or ())),
        "host_devices": ("hostDevices", lambda: hardware.host_devices(vm.host_devices or ())),
        "applications": ("guestApps", lambda: [text(each.name) for each in vm.applications or ()]),
        NUMA: ("numaNodeAffinity", lambda: hardware.numa_ties(vm.numa_nodes or ())),
    }
    return {name: make() for part, (name, make) in makers.items() if part not in found.unreadable}


def _guest_name(guest: Any) -> str:
    if guest is None:
        return ""
    version = text(guest.version.full_version) if guest.version is not None else ""
    return " ".join(part for part in (text(guest.distribution), version) if part)


def _count(topology: Any, name: str) -> int:
    return int(getattr(topology, name, None) or 1)


def _bios(vm: Any, cluster: dict[str, Any]) -> str:
    own = text(vm.bios.type) if vm.bios is not None else ""
    return own if own not in ("", "cluster_default") else str(cluster.get("biosType", ""))


def _display(vm: Any) -> str:
    """Return spice or vnc; newer engines tell it by the VM's consoles alone, and SPICE counts when there are both."""
    if vm.display is not None and vm.display.type is not None:
        return text(vm.display.type)
    protocols = sorted(text(console.protocol) for console in vm.graphics_consoles or ())
    return protocols[0] if protocols else ""


def _moment(value: Any) -> str:
    return value.isoformat() if value is not None else ""
