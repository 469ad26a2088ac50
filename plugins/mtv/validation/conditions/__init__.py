"""Conditions of a plan: what it asks of its VMs and of its target beyond what rules say of a VM alone.

Pure functions over plan, inventory and target facts. A map that names networks or datastores which no VM uses is fine:
one big map serves many plans.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from mtv.model.concern import Concern
from mtv.model.condition import Condition, ConditionCategory
from mtv.model.plan import Plan, Wave
from mtv.model.source import SourceVm
from mtv.model.target_facts import TargetFacts
from mtv.validation.acceptance import accepted_conditions
from mtv.validation.conditions import (
    addresses,
    disks,
    maps,
    pitfalls,
    readable,
    target_cluster,
    target_features,
    target_machines,
    target_storage,
    vms,
    warm,
)
from mtv.validation.conditions.case import Case, critical

__all__ = ["conditions", "for_plan", "for_vm", "merged"]

_ORDER = list(ConditionCategory)


def conditions(
    plan: Plan,
    wave: Wave,
    found: Mapping[str, Sequence[SourceVm]],
    *,
    target: TargetFacts | None = None,
    concerns: Mapping[str, Sequence[Concern]] | None = None,
    service_account: str = "",
    others: Mapping[str, Mapping[str, str]] | None = None,
) -> tuple[Condition, ...]:
    """Return the conditions of a wave, gravest first; one that is the same for several VMs is one with all of them.

    `found` is what the sources hold under each VM's name, by VM id: one VM in the good case. Without `target` only the
    source and the plan are judged. `concerns` are what rules said of the VMs, by VM id, those marked that the plan
    accepts (`accepted`); `service_account` is the one that pods of this installation run under, empty for the
    namespace's default. `others` are the VMs that are known of the source of one that was not found, name to path, by
    its id.
    """
    cases = [Case(plan=plan, wave=wave, vm=vm, found=tuple(found.get(vm.id, ()))) for vm in wave.vms]
    said: list[Condition] = []
    near = vms.near_names(cases, others or {})
    for case in cases:
        said += vms.existence(case, near.get(case.vm.id, ""))
        said += vms.target_name(case)
        for seen in case.found:
            said += [
                *readable.of_vm(case, seen),
                *vms.kind(case, seen),
                *maps.networks(case, seen),
                *maps.storage(case, seen),
                *disks.of_vm(case, seen),
                *warm.of_vm(case, seen),
                *addresses.of_guest(case, seen),
                *pitfalls.of_vm(case, seen),
            ]
    said += disks.shared(cases)
    said += pitfalls.of_wave(cases)
    said += _blocked_by_rules(concerns or {})
    if target is not None:
        said += target_cluster.conditions(plan, cases, target, service_account)
        if not target.refused:
            said += target_storage.conditions(plan, cases, target)
            said += target_features.conditions(cases, target)
            said += target_machines.conditions(cases, target)
    return merged(accepted_conditions(plan, said))


def for_vm(found: Iterable[Condition], vm_id: str) -> list[Concern]:
    """Return what conditions mean for one VM: those about it, and those that block the plan as a whole.

    What rules have said of the VM is left out, because their concerns stand for themselves.
    """
    about = [c for c in found if (vm_id in c.vms or (c.blocks and not c.vms)) and c.type != "VMCriticalConcerns"]
    return list(dict.fromkeys(condition.concern() for condition in about))


def for_plan(found: Iterable[Condition]) -> list[Condition]:
    """Return the conditions that are about the plan as a whole."""
    return [condition for condition in found if not condition.vms]


def _blocked_by_rules(concerns: Mapping[str, Sequence[Concern]]) -> Iterable[Condition]:
    for vm_id, said in concerns.items():
        if any(concern.blocks for concern in said):
            yield critical(
                "VMCriticalConcerns",
                "plan.vm.critical_concerns",
                "NotValid",
                "Rules found a Critical concern",
                "See the concerns of the VM; mend it on the source, or take it out of the wave.",
                vms=(vm_id,),
            )


def merged(said: Iterable[Condition]) -> tuple[Condition, ...]:
    """Return conditions gravest first; one that is the same for several VMs is one with all of them."""
    vms: dict[Condition, dict[str, None]] = {}
    for condition in said:
        bare = msgspec.structs.replace(condition, vms=())
        vms.setdefault(bare, {}).update(dict.fromkeys(condition.vms))
    merged = [msgspec.structs.replace(bare, vms=tuple(about)) for bare, about in vms.items()]
    return tuple(sorted(merged, key=lambda condition: _ORDER.index(condition.category)))
