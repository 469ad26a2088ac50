"""A concern: what a validation rule found about one VM. Field names are Forklift's."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Category(StrEnum):
    """How much a concern matters: Critical blocks the VM, the others are shown."""

    CRITICAL = "Critical"
    WARNING = "Warning"
    INFORMATION = "Information"


class Concern(msgspec.Struct, frozen=True, kw_only=True):
    """One finding of one rule about one VM."""

    id: str
    category: Category
    label: str
    assessment: str
