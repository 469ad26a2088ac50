"""The plan's maps cover the VM's networks and storage, in a way that KubeVirt can build."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from mtv.model.condition import Condition
from mtv.model.near_names import nearest
from mtv.model.source import SourceVm
from mtv.validation.conditions.case import ANY, Case, critical


def networks(case: Case, seen: SourceVm) -> Iterable[Condition]:
    """Every card has a place, and no place gets two cards."""
    vms = (case.vm.id,)
    on_pod = 0
    used: Counter[str] = Counter()
    for nic in seen.nics:
        target = case.network(nic)
        if target is None:
            yield critical(
                "VMNetworksNotMapped",
                "plan.network.not_mapped",
                "NotValid",
                f"Network {nic.network!r} is not mapped" if nic.network else f"Card {nic.index + 1} is on no network",
                _cure("A card is on it", nic.network, "network_map", case.plan.network_map),
                vms=vms,
            )
        elif target.type == "multus" and not target.name:
            yield critical(
                "DestinationNetworkNotValid",
                "plan.network.target_missing",
                "NotSet",
                f"Network {nic.network!r} is mapped to multus without a name",
                "Name the NetworkAttachmentDefinition as namespace/name.",
                vms=vms,
            )
        elif target.type == "pod":
            on_pod += 1
        elif target.type == "multus":
            used[target.name] += 1
    if on_pod > 1:
        yield critical(
            "VMMultiplePodNetworkMappings",
            "plan.network.pod_twice",
            "NotValid",
            f"{on_pod} cards would be on the pod network",
            "A VM can have one card there. Map the other networks elsewhere, or to type: ignored.",
            vms=vms,
        )
    for name in sorted(name for name, count in used.items() if count > 1):
        yield critical(
            "VMMultipleAttachmentMappings",
            "plan.network.attachment_twice",
            "NotValid",
            f"{used[name]} cards would be on {name}",
            "A VM can have one card on a NetworkAttachmentDefinition. Map the networks to different ones.",
            vms=vms,
        )


def storage(case: Case, seen: SourceVm) -> Iterable[Condition]:
    """Every disk has a class to go to."""
    for disk in seen.disks:
        if disk.locator.get("storage_type") == "lun":
            continue  # it lies on no storage, and blocks the VM by itself
        if case.storage(disk) is None:
            yield critical(
                "VMStorageNotMapped",
                "plan.storage.not_mapped",
                "NotValid",
                f"Storage {disk.storage!r} is not mapped"
                if disk.storage
                else f"The source does not name the storage of disk {disk.id}",
                _cure("A disk lies on it", disk.storage, "storage_map", case.plan.storage_map),
                vms=(case.vm.id,),
            )


def _cure(why: str, name: str, map_name: str, keys: Iterable[str]) -> str:
    """Return what to add to a map; a key that looks like a misspelt name is mentioned."""
    if not name:
        return f'Add "*" to {map_name}: it takes what no other key names.'
    near = nearest(name, (key for key in keys if key != ANY))
    hint = f" There is {near!r}, which may be meant to be it." if near else ""
    return f'{why}. Add {name!r} or "*" to {map_name}.{hint}'
