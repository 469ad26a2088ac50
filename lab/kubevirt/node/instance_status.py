"""What virt-handler writes into a VirtualMachineInstance. Pure: from an instance to a merge patch for it."""

from __future__ import annotations

import datetime
from typing import Any

_GUEST_ADDRESS = "10.0.2.2"  # what masquerade gives every guest


def timestamp() -> str:
    """Now, as Kubernetes writes it."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def running(vmi: dict[str, Any], now: str) -> dict[str, Any]:
    """Merge patch for an instance whose guest has started. It says nothing about what the guest does."""
    status, spec = vmi.get("status") or {}, vmi["spec"]
    patch = _phase(vmi, "Running", now)
    cpu = spec["domain"].get("cpu") or {}
    memory = (spec["domain"].get("memory") or {}).get("guest")
    patch |= {
        "interfaces": [_interface(interface) for interface in _interfaces(spec)],
        "selinuxContext": "none",
        "machine": {"type": (spec["domain"].get("machine") or {}).get("type") or "q35"},
        "currentCPUTopology": {key: cpu.get(key) or 1 for key in ("cores", "sockets", "threads")},
        "volumeStatus": _with_targets(status.get("volumeStatus") or [], spec),
        "conditions": _with_conditions(status.get("conditions") or [], now),
    }
    if memory:
        patch["memory"] = {"guestAtBoot": memory, "guestCurrent": memory, "guestRequested": memory}
    return _guarded(vmi, patch)


def ended(vmi: dict[str, Any], state: str, now: str) -> dict[str, Any]:
    """Merge patch for an instance whose guest has ended: Succeeded if it went down or was killed on demand."""
    return _guarded(vmi, _phase(vmi, "Succeeded" if state == "shutdown" else "Failed", now))


def _guarded(vmi: dict[str, Any], status: dict[str, Any]) -> dict[str, Any]:
    """With the version that was read: a patch of lists must not undo what virt-controller wrote meanwhile."""
    return {"metadata": {"resourceVersion": vmi["metadata"]["resourceVersion"]}, "status": status}


def _phase(vmi: dict[str, Any], phase: str, now: str) -> dict[str, Any]:
    before = (vmi.get("status") or {}).get("phaseTransitionTimestamps") or []
    return {
        "phase": phase,
        "phaseTransitionTimestamps": [*before, {"phase": phase, "phaseTransitionTimestamp": now}],
    }


def _interfaces(spec: dict[str, Any]) -> list[dict[str, Any]]:
    return (spec["domain"].get("devices") or {}).get("interfaces") or []


def _interface(interface: dict[str, Any]) -> dict[str, Any]:
    found = {"name": interface["name"], "infoSource": "domain", "queueCount": 1}
    found["linkState"] = "down" if interface.get("state") == "down" else "up"
    if interface.get("macAddress"):
        found["mac"] = interface["macAddress"]
    if "masquerade" in interface:
        found |= {"ipAddress": _GUEST_ADDRESS, "ipAddresses": [_GUEST_ADDRESS]}
    return found


def _with_targets(volumes: list[dict[str, Any]], spec: dict[str, Any]) -> list[dict[str, Any]]:
    """The volumes' status with the device names that libvirt would choose (the guest may see others)."""
    targets: dict[str, str] = {}
    used: dict[str, int] = {}
    for disk in (spec["domain"].get("devices") or {}).get("disks") or []:
        kind = next((kind for kind in ("cdrom", "lun", "disk") if kind in disk), "disk")
        prefix = "vd" if (disk.get(kind) or {}).get("bus") == "virtio" else "sd"
        targets[disk["name"]] = prefix + chr(ord("a") + used.get(prefix, 0))
        used[prefix] = used.get(prefix, 0) + 1
    return [{**v, "target": targets[v["name"]]} if v["name"] in targets else v for v in volumes]


def _with_conditions(conditions: list[dict[str, Any]], now: str) -> list[dict[str, Any]]:
    # Both times must be there: without them virt-controller's own patches of conditions are refused.
    times = {"lastProbeTime": now, "lastTransitionTime": now}
    migratable = {
        "type": "LiveMigratable",
        "status": "False",
        "reason": "NotMigratable",
        "message": "the lab has one node and does not migrate",
        **times,
    }
    return [c for c in conditions if c["type"] != "LiveMigratable"] + [migratable]
