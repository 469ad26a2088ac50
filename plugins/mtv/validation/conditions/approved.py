"""What has changed since a wave was approved."""

from __future__ import annotations

from collections.abc import Sequence

from mtv.model.condition import Condition
from mtv.validation.conditions.case import critical, warning


def vm_changed(vm_id: str, name: str, by: str, changes: Sequence[str]) -> Condition:
    """Return the condition of a VM that is not any more what was approved."""
    return critical(
        "VMChangedSinceApproval",
        "plan.vm.changed_since_approval",
        "Modified",
        f"{name} has changed since {by} approved it: {'; '.join(changes)}",
        "Look at the difference, and approve the wave again.",
        vms=(vm_id,),
    )


def plan_changed(wave: str, by: str) -> Condition:
    """Return the condition of a plan that is not any more what was approved."""
    return warning(
        "PlanChangedSinceApproval",
        "plan.changed_since_approval",
        "Modified",
        f"The plan has changed since {by} approved its wave {wave}",
        "Approve the wave again.",
    )
