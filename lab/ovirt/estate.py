"""What an engine knows of: data centres, clusters, hosts, networks, storage, disks and VMs, as the SDK's own types.

Objects refer to each other by id alone (`types.Cluster(id="cl-1")`), as an engine's answers do. What lies below a VM
(its NICs, its snapshots …) is kept beside it and told only to those who ask for it or `follow` it.
"""

from __future__ import annotations

from typing import Any

COLLECTIONS = (
    "data_centers",
    "clusters",
    "hosts",
    "networks",
    "vnic_profiles",
    "storage_domains",
    "disks",
    "disk_profiles",
    "vms",
)
PARTS = (
    "disk_attachments",
    "nics",
    "snapshots",
    "watchdogs",
    "cdroms",
    "host_devices",
    "graphics_consoles",
    "applications",
    "numa_nodes",
    "reported_devices",
)
"""Collections below a VM."""


def address(name: str) -> str:
    """A collection's name in a URL."""
    return name.replace("_", "")


class Estate:
    """All objects of one engine, by collection and id, and the parts of its VMs."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {name: {} for name in COLLECTIONS}
        self.parts: dict[str, dict[str, list[Any]]] = {}

    def add(self, collection: str, found: Any, **parts: list[Any]) -> Any:
        """Put an object into a collection; `parts` are what lies below a VM. Returns the object."""
        unknown = set(parts) - set(PARTS)
        if unknown:
            raise KeyError(f"a VM has no {', '.join(sorted(unknown))}")
        self.objects[collection][found.id] = found
        if collection == "vms":
            self.parts[found.id] = {name: parts.get(name, []) for name in PARTS}
        return found

    def remove_vm(self, vm_id: str) -> None:
        """The VM is deleted, with its disks."""
        del self.objects["vms"][vm_id]
        for attachment in self.parts.pop(vm_id)["disk_attachments"]:
            self.objects["disks"].pop(attachment.disk.id, None)

    def vm(self, name: str) -> Any:
        """The VM of that name. Raises `KeyError`."""
        for vm in self.objects["vms"].values():
            if vm.name == name:
                return vm
        raise KeyError(name)

    def below(self, found: Any, name: str) -> Any:
        """What a link of an object leads to: a list of parts, another object, or None."""
        if name in PARTS and found.id in self.parts:
            return self.parts[found.id][name]
        reference = getattr(found, name)
        if reference is None:
            return None
        return self.objects[f"{name}s"].get(reference.id, reference)
