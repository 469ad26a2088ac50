"""What the source's user may not read of a VM: rules about it stay silent, so it must be said that nobody looked."""

from __future__ import annotations

from collections.abc import Iterable

from mtv.model.condition import Condition
from mtv.model.source import SourceVm
from mtv.validation.conditions.case import Case, critical, warning

_NEEDED = ("config", "runtime", "snapshot", "disk_attachments", "nics", "snapshots", "volumes")
"""Properties, and what lies below them, without which a VM cannot be migrated as it is."""
_DISKS = ("config.hardware.device", "disk_attachments", "volumes")
"""Properties, and what lies below them, that tell of disks."""


def of_vm(case: Case, seen: SourceVm) -> Iterable[Condition]:
    """Everything that a migration goes by could be read."""
    hidden = unreadable(seen)
    if not hidden:
        return
    lacking = [str(one) for one in seen.document.get("missingPrivileges") or ()]
    what = f"privilege {', '.join(lacking)}" if lacking else "right to read it"
    make = critical if any(path.partition(".")[0] in _NEEDED for path in hidden) else warning
    yield make(
        "VMNotReadable",
        "plan.vm.not_readable",
        "Forbidden",
        f"The source's user may not read {', '.join(hidden)} of it: the {what} is missing",
        f"Give the user the {what} on the VM and what it stands on, and take the inventory again. "
        "Rules about what could not be read say nothing.",
        vms=(case.vm.id,),
    )


def unreadable(seen: SourceVm) -> list[str]:
    """Return the properties that the user may not read."""
    found = seen.document.get("unreadable")
    return [str(path) for path in found] if isinstance(found, list) else []


def hides_disks(seen: SourceVm) -> bool:
    """Return whether the VM may have disks that the user may not read."""
    return any(path == one or path.startswith(f"{one}.") for path in unreadable(seen) for one in _DISKS)
