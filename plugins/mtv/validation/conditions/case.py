"""One VM of a wave with what was found under its name, and how conditions about it are made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mtv.model.condition import Condition, ConditionCategory
from mtv.model.plan import NetworkTarget, Plan, PlannedVm, StorageTarget, Wave
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

    def storage(self, disk: SourceDisk) -> StorageTarget | None:
        """Return where a disk goes, or None when no map says. Without a class it is the cluster's default."""
        mapped = self.plan.storage_map.get(disk.storage) or self.plan.storage_map.get(ANY)
        chosen: str | None = self.option("storage_class") or (mapped.storage_class if mapped else None)
        if chosen is None:
            return None
        # What the map says about modes belongs to the map's class, not to a class that the VM chose for itself.
        kept = mapped if mapped is not None and mapped.storage_class == chosen else StorageTarget()
        return StorageTarget(
            storage_class=chosen,
            volume_mode=self.option("volume_mode") or kept.volume_mode,
            access_mode=kept.access_mode,
        )

    @property
    def is_converted(self) -> bool:
        """Whether virt-v2v is to convert the guest, if it did not run on KVM already."""
        return self.option("skip_guest_conversion") is not True

    def place(self, nic: SourceNic) -> str:
        """Return a name of the network that a card goes to: the same for all cards that meet there, "" for none."""
        target = self.network(nic)
        if target is None or target.type == "ignored":
            return ""
        return "pod" if target.type == "pod" else full_name(target, self.plan.target.namespace)


def full_name(network: NetworkTarget, namespace: str) -> str:
    """Return the namespace and the name of an attachment; without a namespace it is of the target's."""
    return network.name if "/" in network.name else f"{namespace}/{network.name}"


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


def advisory(type_: str, id_: str, reason: str, message: str, cure: str, *, vms: tuple[str, ...] = ()) -> Condition:
    """Return a condition that only tells something, such as what could not be looked at."""
    return Condition(
        type=type_, id=id_, category=ConditionCategory.ADVISORY, reason=reason, message=message, cure=cure, vms=vms
    )
