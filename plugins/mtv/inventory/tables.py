"""An inventory as pandas tables: typed, nullable, keyed. Columns (all sizes in bytes, all ids those of the source):

vms             vm_id, name, provider, uuid, power (on, off, suspended, unknown), cpu_count, cores_per_socket,
                memory_bytes, firmware (bios, efi), secure_boot, tpm, guest_os, is_template, host, disk_count,
                disk_bytes, nic_count
disks           vm_id, disk_id, disk_index (0 is the boot candidate), size_bytes, allocated_bytes (null: not known),
                bus, storage (key of the storage map), shared, serial, identity, generation
nics            vm_id, nic_index, network (key of the network map), mac (lower case), model, connected
guest_networks  vm_id, row, device, mac, ip, prefix, origin, network: what the guest's tools tell of its addresses
guest_disks     vm_id, row, path, capacity_bytes, free_bytes, filesystem: what they tell of its file systems
devices         vm_id, row, kind, device_id: everything that is plugged in
snapshots       vm_id, snapshot_id, kind
hosts           host_id, name, cluster_id, status, in_maintenance, product, model, cpu_sockets, cpu_cores, memory_bytes
clusters        cluster_id, name, ha_enabled, drs_enabled, drs_behavior
datastores      datastore_id, name, type, capacity_bytes, free_bytes (null: not known)
networks        network_id, name, variant, vlan

The first three come from what every provider delivers, the others from workload documents and, for vSphere and oVirt,
from what the source lists, so that what no VM uses is there too. An attribute that a source does not know is null.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import pandas as pd

from mtv.inventory.documents import rows_of, snapshots_of
from mtv.inventory.surroundings import things_of
from mtv.model.source import SourceVm, Thing

VM_COLUMNS: Mapping[str, str] = {
    "vm_id": "string",
    "name": "string",
    "provider": "string",
    "uuid": "string",
    "power": "string",
    "cpu_count": "Int64",
    "cores_per_socket": "Int64",
    "memory_bytes": "Int64",
    "firmware": "string",
    "secure_boot": "boolean",
    "tpm": "boolean",
    "guest_os": "string",
    "is_template": "boolean",
    "host": "string",
    "disk_count": "Int64",
    "disk_bytes": "Int64",
    "nic_count": "Int64",
}
DISK_COLUMNS: Mapping[str, str] = {
    "vm_id": "string",
    "disk_id": "string",
    "disk_index": "Int64",
    "size_bytes": "Int64",
    "allocated_bytes": "Int64",
    "bus": "string",
    "storage": "string",
    "shared": "boolean",
    "serial": "string",
    "identity": "string",
    "generation": "string",
}
NIC_COLUMNS: Mapping[str, str] = {
    "vm_id": "string",
    "nic_index": "Int64",
    "network": "string",
    "mac": "string",
    "model": "string",
    "connected": "boolean",
}


GUEST_NETWORK_COLUMNS: Mapping[str, str] = {
    "vm_id": "string",
    "row": "Int64",
    "device": "string",
    "mac": "string",
    "ip": "string",
    "prefix": "Int64",
    "origin": "string",
    "network": "string",
}
GUEST_DISK_COLUMNS: Mapping[str, str] = {
    "vm_id": "string",
    "row": "Int64",
    "path": "string",
    "capacity_bytes": "Int64",
    "free_bytes": "Int64",
    "filesystem": "string",
}
DEVICE_COLUMNS: Mapping[str, str] = {"vm_id": "string", "row": "Int64", "kind": "string", "device_id": "string"}
SNAPSHOT_COLUMNS: Mapping[str, str] = {"vm_id": "string", "snapshot_id": "string", "kind": "string"}
HOST_COLUMNS: Mapping[str, str] = {
    "host_id": "string",
    "name": "string",
    "cluster_id": "string",
    "status": "string",
    "in_maintenance": "boolean",
    "product": "string",
    "model": "string",
    "cpu_sockets": "Int64",
    "cpu_cores": "Int64",
    "memory_bytes": "Int64",
}
CLUSTER_COLUMNS: Mapping[str, str] = {
    "cluster_id": "string",
    "name": "string",
    "ha_enabled": "boolean",
    "drs_enabled": "boolean",
    "drs_behavior": "string",
}
DATASTORE_COLUMNS: Mapping[str, str] = {
    "datastore_id": "string",
    "name": "string",
    "type": "string",
    "capacity_bytes": "Int64",
    "free_bytes": "Int64",
}
NETWORK_COLUMNS: Mapping[str, str] = {
    "network_id": "string",
    "name": "string",
    "variant": "string",
    "vlan": "string",
}


class Tables(NamedTuple):
    """The tables of one inventory. Rows of a VM are unique in `vm_id` and index, row or id; others in their id."""

    vms: pd.DataFrame
    disks: pd.DataFrame
    nics: pd.DataFrame
    guest_networks: pd.DataFrame
    guest_disks: pd.DataFrame
    devices: pd.DataFrame
    snapshots: pd.DataFrame
    hosts: pd.DataFrame
    clusters: pd.DataFrame
    datastores: pd.DataFrame
    networks: pd.DataFrame


def tables_of(vms: Iterable[SourceVm], things: Iterable[Thing] | None = None) -> Tables:
    """Return the tables; without VMs they are empty but have their columns and types.

    `things` is what is around the VMs; when it is not given, what they themselves refer to.
    """
    seen = list(vms)
    things = things_of(seen) if things is None else list(things)
    return Tables(
        vms=_table([_vm_row(vm) for vm in seen], VM_COLUMNS),
        disks=_table([row for vm in seen for row in _disk_rows(vm)], DISK_COLUMNS),
        nics=_table([row for vm in seen for row in _nic_rows(vm)], NIC_COLUMNS),
        guest_networks=_table([row for vm in seen for row in _guest_network_rows(vm)], GUEST_NETWORK_COLUMNS),
        guest_disks=_table([row for vm in seen for row in _guest_disk_rows(vm)], GUEST_DISK_COLUMNS),
        devices=_table([row for vm in seen for row in _device_rows(vm)], DEVICE_COLUMNS),
        snapshots=_table([row for vm in seen for row in _snapshot_rows(vm)], SNAPSHOT_COLUMNS),
        hosts=_table([_host_row(thing) for thing in things if thing.kind == "host"], HOST_COLUMNS),
        clusters=_table([_cluster_row(thing) for thing in things if thing.kind == "cluster"], CLUSTER_COLUMNS),
        datastores=_table([_datastore_row(thing) for thing in things if thing.kind == "datastore"], DATASTORE_COLUMNS),
        networks=_table([_network_row(thing) for thing in things if thing.kind == "network"], NETWORK_COLUMNS),
    )


def _vm_row(vm: SourceVm) -> tuple[Any, ...]:
    return (
        vm.id,
        vm.name,
        vm.provider,
        vm.uuid,
        vm.power.value,
        vm.cpu_count,
        vm.cores_per_socket,
        vm.memory_bytes,
        vm.firmware.value,
        vm.secure_boot,
        vm.tpm,
        vm.guest_os,
        vm.is_template,
        vm.host,
        len(vm.disks),
        sum(disk.size_bytes for disk in vm.disks),
        len(vm.nics),
    )


def _disk_rows(vm: SourceVm) -> Iterable[tuple[Any, ...]]:
    for disk in vm.disks:
        yield (
            vm.id,
            disk.id,
            disk.index,
            disk.size_bytes,
            disk.allocated_bytes,
            disk.bus,
            disk.storage,
            disk.shared,
            disk.serial,
            disk.identity,
            disk.generation,
        )


def _nic_rows(vm: SourceVm) -> Iterable[tuple[Any, ...]]:
    for nic in vm.nics:
        yield (vm.id, nic.index, nic.network, nic.mac, nic.model, nic.connected)


def _guest_network_rows(vm: SourceVm) -> Iterable[tuple[Any, ...]]:
    for number, row in enumerate(rows_of(vm, "guestNetworks")):
        texts = (_text(row, name) for name in ("device", "mac", "ip"))
        yield (vm.id, number, *texts, _number(row, "prefix"), _text(row, "origin"), _text(row, "network"))


def _guest_disk_rows(vm: SourceVm) -> Iterable[tuple[Any, ...]]:
    for number, row in enumerate(rows_of(vm, "guestDisks")):
        sizes = (_number(row, "capacity"), _number(row, "freeSpace"))
        yield (vm.id, number, _text(row, "diskPath"), *sizes, _text(row, "filesystemType"))


def _device_rows(vm: SourceVm) -> Iterable[tuple[Any, ...]]:
    for number, row in enumerate(rows_of(vm, "devices")):
        yield (vm.id, number, _text(row, "kind"), _text(row, "key"))


def _snapshot_rows(vm: SourceVm) -> Iterable[tuple[Any, ...]]:
    for snapshot_id, kind in snapshots_of(vm).items():
        yield (vm.id, snapshot_id, kind)


def _host_row(thing: Thing) -> tuple[Any, ...]:
    cluster = thing.document.get("cluster")
    cluster_id = _text(cluster, "id") if isinstance(cluster, Mapping) else _text(thing.document, "cluster")
    own = thing.document
    product = " ".join(filter(None, (_text(own, "productName") or _text(own, "product"), _text(own, "productVersion"))))
    return (
        thing.key,
        thing.name,
        cluster_id,
        _text(own, "status"),
        _flag(own.get("inMaintenance")),
        product or None,
        _text(own, "model"),
        _number(own, "cpuSockets"),
        _number(own, "cpuCores"),
        _number(own, "memoryBytes"),
    )


def _cluster_row(thing: Thing) -> tuple[Any, ...]:
    own = thing.document
    ha = own.get("dasEnabled", own.get("haReservation"))
    return (thing.key, thing.name, _flag(ha), _flag(own.get("drsEnabled")), _text(own, "drsBehavior"))


def _datastore_row(thing: Thing) -> tuple[Any, ...]:
    own = thing.document
    free, used = _number(own, "free"), _number(own, "used")
    available = _number(own, "available")
    capacity = _number(own, "capacity")
    if capacity is None and available is not None and used is not None:
        capacity = available + used
    return (thing.key, thing.name, _text(own, "type"), capacity, available if free is None else free)


def _network_row(thing: Thing) -> tuple[Any, ...]:
    own = thing.document
    return (thing.key, thing.name, _text(own, "variant"), _text(own, "vlanId") or _text(own, "vlan"))


def _text(row: Mapping[str, Any], name: str) -> str | None:
    value = row.get(name)
    return None if value is None or isinstance(value, (dict, list)) else str(value)


def _number(row: Mapping[str, Any], name: str) -> int | None:
    value = row.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _flag(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _table(rows: list[tuple[Any, ...]], columns: Mapping[str, str]) -> pd.DataFrame:
    names = list(columns)
    # Column by column: a table made of rows would pass through float64 and round sizes above 2^53.
    cells = zip(*rows, strict=True) if rows else ([] for _ in names)
    return pd.DataFrame(
        {name: pd.array(list(values), dtype=columns[name]) for name, values in zip(names, cells, strict=True)}
    )
