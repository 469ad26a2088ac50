"""One VM of a wave with what was found under its name, and how conditions about it are made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mtv.model.condition import Condition, ConditionCategory
from mtv.model.plan import NetworkTarget, Plan, PlannedVm, Wave
from mtv.model.source import SourceDisk, SourceNic, SourceVm

ANY = "*"


@dataclass(frozen=True, kw_only=True)
class Case:
    """A planned VM and what the source holds under its name."""

    plan: Plan
    wave: Wave
    vm: PlannedVm
    found: tuple[SourceVm, ...]

    @property
    def target_name(self) -> str:
        """The VM's name on the target: the id is the DNS label of its name, which is the default."""
        return self.vm.target_name or self.vm.id

    def option(self, name: str) -> Any:
        """Return an option of the VM, the nearest word winning; None when nothing says."""
        levels = (self.vm, self.wave.defaults, self.plan.defaults)
        return next((value for level in levels if (value := getattr(level, name)) is not None), None)

    @property
    def is_warm(self) -> bool:
        """Whether the VM is to move warm."""
        return bool(self.option("type") == "warm")

    @property
    def keeps_addresses(self) -> bool:
        """Whether static addresses are to be kept, as they are unless the plan says no."""
        return self.option("preserve_static_ips") is not False

    def network(self, nic: SourceNic) -> NetworkTarget | None:
        """Return where a card goes, or None when no map says."""
        chosen = self.option("network")
        if chosen in ("pod", "ignored"):
            return NetworkTarget(type="pod" if chosen == "pod" else "ignored")
        if chosen is not None:
            return NetworkTarget(type="multus", name=chosen)
        return self.plan.network_map.get(nic.network) or self.plan.network_map.get(ANY)

    def storage_class(self, disk: SourceDisk) -> str | None:
        """Return the class that a disk goes to, or None when no map says."""
        chosen: str | None = self.option("storage_class")
        if chosen is not None:
            return chosen
        mapped = self.plan.storage_map.get(disk.storage) or self.plan.storage_map.get(ANY)
        return mapped.storage_class if mapped else None


def rows_of(seen: SourceVm, table: str) -> list[dict[str, Any]]:
    """Return the rows of a list in the VM's document; none where it is missing or of another shape."""
    rows = seen.document.get(table)
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def critical(type_: str, id_: str, reason: str, message: str, cure: str, *, vms: tuple[str, ...] = ()) -> Condition:
    """Return a condition that blocks what it is about."""
    return Condition(
        type=type_, id=id_, category=ConditionCategory.CRITICAL, reason=reason, message=message, cure=cure, vms=vms
    )


def warning(type_: str, id_: str, reason: str, message: str, cure: str, *, vms: tuple[str, ...] = ()) -> Condition:
    """Return a condition that is shown and blocks nothing."""
    return Condition(
        type=type_, id=id_, category=ConditionCategory.WARNING, reason=reason, message=message, cure=cure, vms=vms
    )


def advisory(type_: str, id_: str, reason: str, message: str, cure: str) -> Condition:
    """Return a condition that says what could not be looked at."""
    return Condition(type=type_, id=id_, category=ConditionCategory.ADVISORY, reason=reason, message=message, cure=cure)
