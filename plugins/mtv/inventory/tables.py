"""An inventory as pandas tables: one of VMs, one of disks, one of network cards; typed, nullable, keyed by `vm_id`.

Columns (all sizes in bytes):

vms    vm_id, name, provider, uuid, power (on, off, suspended, unknown), cpu_count, cores_per_socket, memory_bytes,
       firmware (bios, efi), secure_boot, tpm, guest_os, is_template, host, disk_count, disk_bytes, nic_count
disks  vm_id, disk_id, disk_index (0 is the boot candidate), size_bytes, allocated_bytes (null: not known), bus,
       storage (key of the storage map), shared, serial, identity, generation
nics   vm_id, nic_index, network (key of the network map), mac (lower case), model, connected
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import pandas as pd

from mtv.model.source import SourceVm

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


class Tables(NamedTuple):
    """The tables of one inventory; `vms` is unique in `vm_id`, the others in `vm_id` and their index."""

    vms: pd.DataFrame
    disks: pd.DataFrame
    nics: pd.DataFrame


def tables_of(vms: Iterable[SourceVm]) -> Tables:
    """Return the tables; without VMs they are empty but have their columns and types."""
    seen = list(vms)
    return Tables(
        vms=_table([_vm_row(vm) for vm in seen], VM_COLUMNS),
        disks=_table([row for vm in seen for row in _disk_rows(vm)], DISK_COLUMNS),
        nics=_table([row for vm in seen for row in _nic_rows(vm)], NIC_COLUMNS),
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


def _table(rows: list[tuple[Any, ...]], columns: Mapping[str, str]) -> pd.DataFrame:
    names = list(columns)
    # Column by column: a table made of rows would pass through float64 and round sizes above 2^53.
    cells = zip(*rows, strict=True) if rows else ([] for _ in names)
    return pd.DataFrame(
        {name: pd.array(list(values), dtype=columns[name]) for name, values in zip(names, cells, strict=True)}
    )
