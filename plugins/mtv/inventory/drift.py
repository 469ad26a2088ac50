"""What matters of a VM for its migration, as a fingerprint, and the difference of two moments in words.

Power state and host do not count: a VM may be moved or switched between approval and copy without harm.
Neither do generations: a running guest writes. Whether a disk is shared depends on which VMs were read together,
so it is no fact of one VM either.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from mtv.model.source import SourceDisk, SourceNic, SourceVm

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def fingerprint(vm: SourceVm) -> str:
    """Return a sha256 (64 hex digits) of all that `drift` compares; equal exactly when `drift` finds nothing."""
    facts = {
        "vm": _vm_facts(vm),
        "disks": {disk.id: _disk_facts(disk) for disk in vm.disks},
        "nics": [_nic_facts(nic) for nic in vm.nics],
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def drift(before: SourceVm, now: SourceVm) -> list[str]:
    """Return one phrase per difference; empty when nothing that matters has changed."""
    return [
        *_changes("", _vm_facts(before), _vm_facts(now)),
        *_disk_changes(before, now),
        *_nic_changes(before, now),
    ]


def size_in_words(size_bytes: int) -> str:
    """Return a size as people say it, exact where it is whole: `20 GiB`, `1.5 MiB`, `513 B`."""
    amount, unit = float(size_bytes), 0
    while amount >= 1024 and unit + 1 < len(_UNITS):
        amount, unit = amount / 1024, unit + 1
    text = f"{amount:.2f}".rstrip("0").rstrip(".")
    exact = float(text) * 1024**unit == size_bytes
    return f"{text} {_UNITS[unit]}" if exact else f"{text} {_UNITS[unit]} ({size_bytes} bytes)"


def _vm_facts(vm: SourceVm) -> dict[str, Any]:
    return {
        "id": vm.id,
        "UUID": vm.uuid,
        "number of CPUs": vm.cpu_count,
        "cores per socket": vm.cores_per_socket,
        "threads per core": vm.threads_per_core,
        "memory": size_in_words(vm.memory_bytes),
        "firmware": vm.firmware.value,
        "secure boot": "on" if vm.secure_boot else "off",
        "TPM": "present" if vm.tpm else "absent",
        "kind": "template" if vm.is_template else "VM",
    }


def _disk_facts(disk: SourceDisk) -> dict[str, Any]:
    return {
        "position": disk.index,
        "size": size_in_words(disk.size_bytes),
        "bus": disk.bus,
        "storage": disk.storage,
        "identity": disk.identity,
    }


def _nic_facts(nic: SourceNic) -> dict[str, Any]:
    return {
        "MAC address": nic.mac,
        "network": nic.network,
        "model": nic.model,
        "link": "connected" if nic.connected else "disconnected",
    }


def _changes(of: str, before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    return [
        f"{of}{name} was {before[name] or 'empty'}, is {now[name] or 'empty'}"
        for name in before
        if before[name] != now[name]
    ]


def _disk_changes(before: SourceVm, now: SourceVm) -> list[str]:
    old, new = {disk.id: disk for disk in before.disks}, {disk.id: disk for disk in now.disks}
    gone = [f"disk {key} ({size_in_words(old[key].size_bytes)}) is gone" for key in old if key not in new]
    added = [
        f"disk {key} ({size_in_words(disk.size_bytes)} on {disk.storage}) is new"
        for key, disk in new.items()
        if key not in old
    ]
    changed = [
        phrase
        for key in old
        if key in new
        for phrase in _changes(f"disk {key}: ", _disk_facts(old[key]), _disk_facts(new[key]))
    ]
    return gone + added + changed


def _nic_changes(before: SourceVm, now: SourceVm) -> list[str]:
    phrases: list[str] = []
    for index in range(max(len(before.nics), len(now.nics))):
        old = before.nics[index] if index < len(before.nics) else None
        new = now.nics[index] if index < len(now.nics) else None
        if old is not None and new is not None:
            phrases += _changes(f"network card {index + 1}: ", _nic_facts(old), _nic_facts(new))
        elif old is not None:
            phrases.append(f"network card {index + 1} ({old.mac or 'no MAC'} on {old.network}) is gone")
        elif new is not None:
            phrases.append(f"network card {index + 1} ({new.mac or 'no MAC'} on {new.network}) is new")
    return phrases
