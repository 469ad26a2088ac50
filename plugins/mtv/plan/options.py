"""Options of a VM, decided: the VM's own word, else its wave's defaults, else the plan's, else the product's."""

from __future__ import annotations

from typing import Any

from mtv.model.errors import PlanError
from mtv.model.plan import EffectiveVm, Plan, PlannedVm, VmOptions, Wave
from mtv.plan.names import dns_label

_OPTION_NAMES = tuple(VmOptions.model_fields)


def effective(plan: Plan, wave: Wave, vm: PlannedVm) -> EffectiveVm:
    """Return the VM with every option decided. Raises `PlanError` when nothing says where the VM comes from."""
    decided: dict[str, Any] = {}
    for level in (plan.defaults, wave.defaults, vm):
        for name in _OPTION_NAMES:
            value = getattr(level, name)
            if value is not None:
                decided[name] = value
    source = decided.pop("source", None) or (plan.source.connection if plan.source else None)
    if source is None:
        raise PlanError(
            f"nothing says where VM {vm.name} of wave {wave.name} comes from",
            cure="add `source: {connection: …}` to the plan or `source` to the VM",
        )
    target_name = decided.pop("target_name", None) or dns_label(vm.name)
    return EffectiveVm(id=vm.id, name=vm.name, source=source, target_name=target_name, **decided)


def effective_by_id(plan: Plan, vm_id: str) -> EffectiveVm:
    """Return the VM with this id, with every option decided. Raises `PlanError` when the plan has no such VM."""
    for wave in plan.waves:
        for vm in wave.vms:
            if vm.id == vm_id:
                return effective(plan, wave, vm)
    raise PlanError(f"plan {plan.name} has no VM with the id {vm_id}")
