"""What matters of a VM for its migration, as a fingerprint, and the difference of two moments in words.

That is its hardware and firmware, its disks with their sizes, whether the guest sees them and whether changes are
tracked, its snapshots, its network cards, whether it runs and where. Where the platform moves VMs between the hosts of
a cluster by itself, any host of the cluster counts as the same; where its operators move them unseen, as OpenStack's
do, any host at all.
Generations do not count: a running guest writes. Whether a disk is shared depends on which VMs were read together, so
it is no fact of one VM either.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import msgspec

from mtv.inventory.documents import rows_of, snapshots_of
from mtv.model.source import SourceDisk, SourceNic, SourceVm

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def fingerprint(vm: SourceVm) -> str:
    """Return a sha256 (64 hex digits) of all that `drift` compares; equal exactly when `drift` finds nothing.

    Only a disk under its former identity has another fingerprint, and is no drift.
    """
    facts = {
        "vm": _vm_facts(vm),
        "disks": _disks(vm),
        "nics": [_nic_facts(nic) for nic in vm.nics],
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def drift(before: SourceVm, now: SourceVm) -> list[str]:
    """Return one phrase per difference; empty when nothing that matters has changed."""
    before = _in_words_of(now, before)
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
        "power": vm.power.value,
        "host": _place(vm),
        "change tracking": _switch(vm.document.get("changeTrackingEnabled")),
        "snapshots": ", ".join(sorted(snapshots_of(vm))),
    }


def _place(vm: SourceVm) -> str:
    """Return the VM's host, or its cluster where the platform itself may move it to another host there at any time; ""
    of OpenStack, whose operators move servers and tell their owner a hash of the host.
    """
    if vm.provider == "openstack":
        return ""
    host, cluster = vm.document.get("host"), vm.document.get("cluster")
    moves = vm.document.get("placementPolicyAffinity") == "migratable"
    if isinstance(host, dict) and isinstance(host.get("cluster"), dict):
        cluster = host["cluster"]
        moves = moves or (cluster.get("drsEnabled") is True and cluster.get("drsBehavior") == "fullyAutomated")
    if moves and isinstance(cluster, dict) and cluster.get("id"):
        return f"any of cluster {cluster.get('name') or cluster['id']}"
    return vm.host


def _switch(value: Any) -> str:
    return {True: "on", False: "off"}.get(value, "") if isinstance(value, bool) else ""


def _tracking(vm: SourceVm) -> dict[str, str]:
    """Return whether changes are tracked, by disk id; nothing of disks whose source does not say."""
    return {str(row.get("key")): _switch(row.get("changeTrackingEnabled")) for row in rows_of(vm, "disks")}


def _deactivated(vm: SourceVm) -> set[str]:
    """Return the ids of disks that are attached, but in no machine that the source starts."""
    rows = [row for row in rows_of(vm, "diskAttachments") if row.get("active") is False]
    return {str(row["disk"].get("id")) for row in rows if isinstance(row.get("disk"), dict)}


def _disks(vm: SourceVm) -> dict[str, dict[str, Any]]:
    tracked, deactivated = _tracking(vm), _deactivated(vm)
    return {
        disk.id: {
            **_disk_facts(disk),
            "change tracking": tracked.get(disk.id, ""),
            "state": "deactivated" if disk.id in deactivated else "in use",
        }
        for disk in vm.disks
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
    facts, facts_now = _disks(before), _disks(now)
    changed = [phrase for key in old if key in new for phrase in _changes(f"disk {key}: ", facts[key], facts_now[key])]
    return gone + added + changed


def _in_words_of(now: SourceVm, before: SourceVm) -> SourceVm:
    """Return `before` with the identities that its disks have now, where they were pinned under a former one."""
    new = {disk.id: disk for disk in now.disks}
    disks = tuple(
        msgspec.structs.replace(disk, identity=new[disk.id].identity)
        if disk.id in new and disk.identity in new[disk.id].former_identities
        else disk
        for disk in before.disks
    )
    return msgspec.structs.replace(before, disks=disks)


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
