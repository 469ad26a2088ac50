"""A condition: what stands in the way of a plan, or is worth knowing before it runs. Type names are Forklift's."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from mtv.model.concern import Acceptance, Category, Concern


class ConditionCategory(StrEnum):
    """How much a condition matters, gravest first: Critical and Error block, the others are shown."""

    CRITICAL = "Critical"
    ERROR = "Error"
    WARNING = "Warning"
    ADVISORY = "Advisory"


_AS_CONCERN = {
    ConditionCategory.CRITICAL: Category.CRITICAL,
    ConditionCategory.ERROR: Category.CRITICAL,
    ConditionCategory.WARNING: Category.WARNING,
    ConditionCategory.ADVISORY: Category.INFORMATION,
}


class Condition(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One condition that is set. `vms` are ids of the VMs it is about; none: it is about the plan as a whole.

    `id` is its stable name among concerns, `reason` one word for machines, `message` a sentence for people and `cure`
    what to do about it.
    """

    type: str
    id: str
    category: ConditionCategory
    reason: str
    message: str
    cure: str
    vms: tuple[str, ...] = ()
    accepted: Acceptance | None = None

    @property
    def blocks(self) -> bool:
        """Whether what it is about (its VMs, or the plan) cannot be migrated; not when the plan accepts it."""
        return self.category in (ConditionCategory.CRITICAL, ConditionCategory.ERROR) and self.accepted is None

    def concern(self) -> Concern:
        """Return the condition as a concern about one of its VMs."""
        return Concern(
            id=self.id,
            category=_AS_CONCERN[self.category],
            label=self.message,
            assessment=self.cure,
            accepted=self.accepted,
        )
