"""Everything around the VMs as inventories list it, whether a VM uses it or not. Pure.

Documents of VMs carry only what rules ask for; here each thing tells what vSphere says of it. Sizes are bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pyVmomi import vim

from mtv.model.source import Thing
from mtv.providers.vmware import hosts
from mtv.providers.vmware.collect import Found, moref
from mtv.providers.vmware.surroundings import Surroundings, opaque_network_id

_NETWORKS: Mapping[str, str] = {
    "Network": "Standard",
    "OpaqueNetwork": "OpaqueNetwork",
    "DistributedVirtualPortgroup": "DvPortGroup",
    "DistributedVirtualSwitch": "DvSwitch",
    "VmwareDistributedVirtualSwitch": "DvSwitch",
}
"""Kinds of networks to their variants. A switch is listed, though no card is in it but in one of its portgroups."""


def things(around: Surroundings) -> list[Thing]:
    """Return datacenters, clusters, hosts, datastores and networks."""
    return list(_things(around))


def _things(around: Surroundings) -> Iterable[Thing]:
    for entry in around.entries():
        kind, make = _KINDS.get(entry.kind, ("", None))
        if make is None:
            continue
        document = {**around.reference(entry.id), **make(entry, around)}
        if entry.unreadable:
            document["unreadable"] = list(entry.unreadable)
        yield Thing(kind, entry.id, document["name"], document)


def _datacenter(entry: Found, around: Surroundings) -> dict[str, Any]:
    return {"path": around.path(entry.id)}


def _cluster(entry: Found, around: Surroundings) -> dict[str, Any]:
    return {
        **around.cluster(entry.id),
        "dasVms": _vms_of(entry, "dasVmConfig"),
        "drsVms": _vms_of(entry, "drsVmConfig"),
        "datacenter": around.reference(around.datacenter_of(entry.id)),
        "datastores": _ids(entry, "datastore"),
        "networks": _ids(entry, "network"),
    }


def _host(entry: Found, around: Surroundings) -> dict[str, Any]:
    own = entry.properties
    return {
        **around.host(entry.id),
        "datacenter": around.reference(around.datacenter_of(entry.id)),
        "managementServerIp": _text(own, "summary.managementServerIp"),
        "vendor": _text(own, "summary.hardware.vendor"),
        "model": _text(own, "summary.hardware.model"),
        "cpuSockets": _number(own, "summary.hardware.numCpuPkgs"),
        "cpuCores": _number(own, "summary.hardware.numCpuCores"),
        "memoryBytes": _number(own, "summary.hardware.memorySize"),
        "productName": _text(own, "summary.config.product.name"),
        "productVersion": _text(own, "summary.config.product.version"),
        "timezone": _text(own, "config.dateTimeInfo.timeZone.key"),
        "datastores": _ids(entry, "datastore"),
        "networks": _ids(entry, "network"),
        **hosts.hardware(own),
    }


def _datastore(entry: Found, around: Surroundings) -> dict[str, Any]:
    own = entry.properties
    return {
        "datacenter": around.reference(around.datacenter_of(entry.id)),
        "type": _text(own, "summary.type"),
        "capacity": _number(own, "summary.capacity"),
        "free": _number(own, "summary.freeSpace"),
        "maintenance": _text(own, "summary.maintenanceMode"),
        "storageIOControl": _io_control(own.get("iormConfiguration")),
        **_backing(own.get("info")),
    }


def _io_control(settings: Any) -> dict[str, Any]:
    """Return whether vSphere throttles VMs when the datastore is slow, and from which latency (milliseconds) on."""
    if settings is None:
        return {}
    return {
        "enabled": bool(settings.enabled),
        "congestionThreshold": int(settings.congestionThreshold or 0),
    }


def _backing(info: Any) -> dict[str, Any]:
    """Return the devices (NAA names) below a VMFS datastore, or the server and path of an NFS one."""
    nas, vmfs = getattr(info, "nas", None), getattr(info, "vmfs", None)
    return {
        "backingDevicesNames": sorted(str(extent.diskName or "") for extent in getattr(vmfs, "extent", None) or ()),
        "nas": {"host": str(nas.remoteHost or ""), "path": str(nas.remotePath or "")} if nas is not None else {},
    }


def _network(entry: Found, around: Surroundings) -> dict[str, Any]:
    own = entry.properties
    switch = own.get("config.distributedVirtualSwitch")
    return {
        "datacenter": around.reference(around.datacenter_of(entry.id)),
        "variant": _NETWORKS[entry.kind],
        "key": _text(own, "key") or _text(own, "uuid") or opaque_network_id(entry),
        "dvSwitch": moref(switch),
        "vlanId": _vlan(own.get("config.defaultPortConfig")),
        "hosts": _ids(entry, "host") or _ids(entry, "summary.hostMember"),
    }


def _vlan(settings: Any) -> str:
    """Return a portgroup's VLAN: a number, the ranges of a trunk, or ""."""
    vlan = getattr(settings, "vlan", None)
    if isinstance(vlan, vim.dvs.VmwareDistributedVirtualSwitch.VlanIdSpec):
        return str(vlan.vlanId or "")
    if isinstance(vlan, vim.dvs.VmwareDistributedVirtualSwitch.TrunkVlanSpec):
        return ",".join(f"{part.start}-{part.end}" for part in vlan.vlanId or ())
    return ""


_KINDS: Mapping[str, tuple[str, Callable[[Found, Surroundings], dict[str, Any]]]] = {
    "Datacenter": ("datacenter", _datacenter),
    "ComputeResource": ("cluster", _cluster),  # a host that is in no cluster has one of its own
    "ClusterComputeResource": ("cluster", _cluster),
    "HostSystem": ("host", _host),
    "Datastore": ("datastore", _datastore),
    **dict.fromkeys(_NETWORKS, ("network", _network)),
}


def _vms_of(entry: Found, name: str) -> list[str]:
    """Return the ids of the VMs that have settings of their own in a cluster's configuration."""
    return sorted(moref(one.key) for one in getattr(entry.properties.get("configurationEx"), name, None) or ())


def _ids(entry: Found, path: str) -> list[str]:
    return sorted(moref(reference) for reference in entry.properties.get(path) or ())


def _text(own: Mapping[str, Any], path: str) -> str:
    return str(own.get(path) or "")


def _number(own: Mapping[str, Any], path: str) -> int | None:
    value = own.get(path)
    return None if value is None else int(value)
