"""What a warm migration asks of a VM. A cold one asks nothing of it."""

from __future__ import annotations

from collections.abc import Iterable

from mtv.model.condition import Condition
from mtv.model.source import SourceVm
from mtv.validation.conditions.case import Case, critical, rows_of, warning

PROVIDERS = ("vmware", "ovirt")
"""Providers that can tell what changed on a disk since a snapshot."""


def of_vm(case: Case, seen: SourceVm) -> Iterable[Condition]:
    """The provider can do warm, changes are tracked, and no snapshot is in the way."""
    if not case.is_warm:
        return
    vms = (case.vm.id,)
    if seen.provider not in PROVIDERS:
        yield critical(
            "WarmMigrationNotReady",
            "plan.warm.provider",
            "NotSupported",
            f"A source of type {seen.provider} cannot migrate warm",
            "It does not tell what changed on a disk since a moment. Set type: cold.",
            vms=vms,
        )
        return
    if seen.provider == "vmware" and not case.option("enable_change_tracking") and _untracked(seen):
        yield critical(
            "VMMissingChangedBlockTracking",
            "plan.warm.change_tracking",
            "MissingChangedBlockTracking",
            "Changed block tracking is off",
            "Set enable_change_tracking: true, or switch it on for the VM and its disks on the source.",
            vms=vms,
        )
    if _has_snapshots(seen):
        yield critical(
            "VMHasSnapshots",
            "plan.warm.snapshots",
            "NotValid",
            "The VM has snapshots",
            "Consolidate or remove them: a warm migration makes and removes snapshots of its own.",
            vms=vms,
        )
    if seen.document.get("consolidationNeeded") is True:
        yield warning(
            "VMConsolidationNeeded",
            "plan.warm.consolidation",
            "ConsolidationNeeded",
            "The VM's disks need consolidation",
            "Consolidate them on the source: until then snapshots take longer and may fail.",
            vms=vms,
        )


def _untracked(seen: SourceVm) -> bool:
    return seen.document.get("changeTrackingEnabled") is False or any(
        disk.get("changeTrackingEnabled") is False for disk in rows_of(seen, "disks")
    )


def _has_snapshots(seen: SourceVm) -> bool:
    snapshot = seen.document.get("snapshot")
    if isinstance(snapshot, dict) and snapshot.get("id"):
        return True
    # oVirt always holds one row for the state that the VM is in.
    return any(row.get("type") != "active" for row in rows_of(seen, "snapshots"))
