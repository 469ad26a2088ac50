"""Properties that the user may not read: what of a document must be left out, so that rules about it stay silent."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "config.uuid": ("uuid",),
    "config.instanceUuid": ("instanceUuid",),
    "config.guestId": ("guestId",),
    "config.guestFullName": ("guestName",),
    "config.firmware": ("firmware",),
    "config.bootOptions.bootOrder": (),  # only the order of the disks comes from it
    "config.bootOptions.efiSecureBootEnabled": ("secureBoot",),
    "config.template": ("isTemplate",),
    "config.changeTrackingEnabled": ("changeTrackingEnabled",),
    "config.cpuAffinity": ("cpuAffinity",),
    "config.cpuHotAddEnabled": ("cpuHotAddEnabled",),
    "config.cpuHotRemoveEnabled": ("cpuHotRemoveEnabled",),
    "config.memoryHotAddEnabled": ("memoryHotAddEnabled",),
    "config.nestedHVEnabled": ("nestedHVEnabled",),
    "config.flags.diskUuidEnabled": ("diskEnableUuid",),
    "config.extraConfig": ("numaNodeAffinity", "diskEnableUuid", "pciBridges", "guestApps"),
    "config.hardware.numCPU": ("cpuCount",),
    "config.hardware.numCoresPerSocket": ("coresPerSocket",),
    "config.hardware.memoryMB": ("memoryMB",),
    "config.hardware.device": ("devices", "controllers", "disks", "nics", "tpmEnabled"),
    "runtime.host": ("host",),
    "runtime.powerState": ("powerState",),
    "runtime.connectionState": ("connectionState",),
    "runtime.consolidationNeeded": ("consolidationNeeded",),
    "runtime.faultToleranceState": ("faultToleranceEnabled",),
    "guest.hostName": ("hostName",),
    "guest.guestFullName": ("guestNameFromVmwareTools",),
    "guest.ipAddress": ("ipAddress",),
    "guest.net": ("guestNetworks",),
    "guest.ipStack": ("guestIpStacks",),
    "guest.disk": ("guestDisks",),
    "guest.toolsStatus": ("toolsStatus",),
    "guest.toolsRunningStatus": ("toolsRunningStatus",),
    "guest.toolsVersionStatus2": ("toolsVersionStatus2",),
    "snapshot": ("snapshot",),
    "summary.storage.committed": ("storageUsed",),
    "summary.quickStats.balloonedMemory": ("balloonedMemory",),
    "network": ("networks",),
    "customValue": ("customValues",),
}
"""Attributes of a VM's document that come from each property."""


def without(document: dict[str, Any], unreadable: Iterable[str]) -> dict[str, Any]:
    """Return the document without the attributes whose properties could not be read."""
    paths = set(unreadable)
    if not paths:
        return document
    gone = {attribute for path in paths for attribute in ATTRIBUTES.get(path, ())}
    left = {name: value for name, value in document.items() if name not in gone}
    if "config.extraConfig" in paths and "disks" in left:
        # A change id alone says that changes are tracked; without one nobody can tell.
        left["disks"] = [
            {name: value for name, value in disk.items() if name != "changeTrackingEnabled" or value}
            for disk in left["disks"]
        ]
    return left
