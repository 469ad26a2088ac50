"""A concern: what a validation rule found about one VM. Field names are Forklift's."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Category(StrEnum):
    """How much a concern matters: Critical blocks the VM, the others are shown."""

    CRITICAL = "Critical"
    WARNING = "Warning"
    INFORMATION = "Information"

    @property
    def rank(self) -> int:
        """0 for the gravest."""
        return list(Category).index(self)


class Acceptance(msgspec.Struct, frozen=True, kw_only=True):
    """Who has accepted a concern in the plan, and why."""

    by: str
    reason: str


class Concern(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One finding of one rule about one VM. One that the plan accepts says so and does not block."""

    id: str
    category: Category
    label: str
    assessment: str
    accepted: Acceptance | None = None

    @property
    def blocks(self) -> bool:
        """Whether the VM cannot be migrated because of it."""
        return self.category is Category.CRITICAL and self.accepted is None
