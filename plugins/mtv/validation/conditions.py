"""What a plan asks of its VMs beyond what rules say of a VM alone: maps that cover it, a name of its own, a real VM.

Pure functions over plan and inventory. A map that names networks or datastores which no VM uses is fine: one big map
serves many plans.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from mtv.model.concern import Category, Concern
from mtv.model.plan import NetworkTarget, Plan, PlannedVm, Wave
from mtv.model.source import SourceVm

ANY = "*"


def plan_conditions(plan: Plan, wave: Wave, vms: Sequence[SourceVm]) -> dict[str, list[Concern]]:
    """Return the concerns of each VM of the wave by its name (as the plan calls it); an empty list is good news.

    `vms` is what the sources hold of the wave, of all its sources together.
    """
    found: dict[str, list[SourceVm]] = {}
    for seen in vms:
        found.setdefault(seen.name, []).append(seen)
    shared_names = _shared_target_names(plan)
    concerns: dict[str, list[Concern]] = {vm.name: [] for vm in wave.vms}
    for vm in wave.vms:
        said = concerns[vm.name]
        candidates = found.get(vm.name, [])
        if not candidates:
            said.append(_missing(vm))
        for seen in candidates:
            said += [*_kind(seen), *_networks(plan, wave, vm, seen), *_storage(plan, wave, vm, seen)]
        target = _target_name(vm)
        if target in shared_names:
            said.append(_taken(vm, target, shared_names[target]))
    return {name: list(dict.fromkeys(said)) for name, said in concerns.items()}


def _critical(concern_id: str, label: str, assessment: str) -> Concern:
    return Concern(id=concern_id, category=Category.CRITICAL, label=label, assessment=assessment)


def _missing(vm: PlannedVm) -> Concern:
    return _critical(
        "plan.vm.not_found",
        f"{vm.name} is not in the inventory",
        "The source has no VM of this name, or its user may not see it. Mend the name in the plan.",
    )


def _kind(seen: SourceVm) -> Iterable[Concern]:
    if seen.is_template:
        yield _critical(
            "plan.vm.template",
            f"{seen.name} is a template",
            "A template cannot run, so its migration could not be proven. Deploy a VM from it, or leave it out.",
        )
    state = seen.document.get("connectionState", "connected")
    if state != "connected":
        yield _critical(
            "plan.vm.not_connected",
            f"{seen.name} is {state or 'in an unknown connection state'}",
            "The source has lost touch with the VM's host or files, so its disks cannot be read.",
        )
    if not seen.disks:
        yield _critical(
            "plan.vm.no_disks", f"{seen.name} has no disks", "There is nothing to copy and nothing to boot from."
        )


def _networks(plan: Plan, wave: Wave, vm: PlannedVm, seen: SourceVm) -> Iterable[Concern]:
    chosen = _first(vm.network, wave.defaults.network, plan.defaults.network)
    on_pod = 0
    used: Counter[str] = Counter()
    for nic in seen.nics:
        target = _option_target(chosen) or plan.network_map.get(nic.network) or plan.network_map.get(ANY)
        if target is None:
            yield _critical(
                "plan.network.not_mapped",
                f"Network {nic.network!r} is not mapped",
                f'A card of {seen.name} is on it. Add {nic.network!r} or "*" to network_map.',
            )
        elif target.type == "multus" and not target.name:
            yield _critical(
                "plan.network.target_missing",
                f"Network {nic.network!r} is mapped to multus without a name",
                "Name the NetworkAttachmentDefinition as namespace/name.",
            )
        elif target.type == "pod":
            on_pod += 1
        elif target.type == "multus":
            used[target.name] += 1
    if on_pod > 1:
        yield _critical(
            "plan.network.pod_twice",
            f"{on_pod} cards would be on the pod network",
            "A VM can have one card there. Map the other networks elsewhere, or to type: ignored.",
        )
    for name in sorted(name for name, count in used.items() if count > 1):
        yield _critical(
            "plan.network.attachment_twice",
            f"{used[name]} cards would be on {name}",
            "A VM can have one card on a NetworkAttachmentDefinition. Map the networks to different ones.",
        )


def _storage(plan: Plan, wave: Wave, vm: PlannedVm, seen: SourceVm) -> Iterable[Concern]:
    if _first(vm.storage_class, wave.defaults.storage_class, plan.defaults.storage_class) is not None:
        return
    for disk in seen.disks:
        if disk.storage not in plan.storage_map and ANY not in plan.storage_map:
            yield _critical(
                "plan.storage.not_mapped",
                f"Storage {disk.storage!r} is not mapped",
                f'A disk of {seen.name} lies on it. Add {disk.storage!r} or "*" to storage_map.',
            )


def _shared_target_names(plan: Plan) -> dict[str, list[str]]:
    names: dict[str, list[str]] = {}
    for wave in plan.waves:
        for vm in wave.vms:
            names.setdefault(_target_name(vm), []).append(f"{vm.name} (wave {wave.name})")
    return {name: users for name, users in names.items() if len(users) > 1}


def _taken(vm: PlannedVm, target: str, users: Sequence[str]) -> Concern:
    return _critical(
        "plan.target_name.duplicate",
        f"{vm.name} and another VM would both be called {target!r}",
        f"The plan gives this name to {', '.join(users)}. Set target_name of all but one.",
    )


def _target_name(vm: PlannedVm) -> str:
    return vm.target_name or vm.id  # the id is the DNS label of the name, which is the default target name


def _option_target(option: str | None) -> NetworkTarget | None:
    if option is None:
        return None
    if option in ("pod", "ignored"):
        return NetworkTarget(type="pod" if option == "pod" else "ignored")
    return NetworkTarget(type="multus", name=option)


def _first(*values: str | None) -> str | None:
    return next((value for value in values if value is not None), None)
