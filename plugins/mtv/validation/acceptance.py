"""Concerns that somebody has accepted in the plan: they stay, with who and why, and do not block any more."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from mtv.model.concern import Acceptance, Concern
from mtv.model.condition import Condition
from mtv.model.plan import Plan


def accepted(plan: Plan, vm_id: str, concerns: Iterable[Concern]) -> list[Concern]:
    """Return the concerns of a VM, those marked that the plan accepts for it."""
    return [
        concern
        if (said := _said(plan, concern.id, (vm_id,))) is None
        else msgspec.structs.replace(concern, accepted=said)
        for concern in concerns
    ]


def accepted_conditions(plan: Plan, conditions: Iterable[Condition]) -> list[Condition]:
    """Return conditions, those marked that the plan accepts for every VM that they are about."""
    return [
        one if (said := _said(plan, one.id, one.vms)) is None else msgspec.structs.replace(one, accepted=said)
        for one in conditions
    ]


def _said(plan: Plan, id_: str, vms: tuple[str, ...]) -> Acceptance | None:
    for entry in plan.accept_concerns:
        if entry.id == id_ and (not entry.vms or (vms and set(vms) <= set(entry.vms))):
            return Acceptance(by=entry.by, reason=entry.reason)
    return None
