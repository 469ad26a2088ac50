"""What VMs refer to by id (folders, hosts, clusters, datastores, networks), indexed so that names are at hand."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pyVmomi import vim

from mtv.providers.vmware.collect import Found, moref

_HIDDEN_FOLDERS = {"vm", "host", "datastore", "network"}
_MAX_DEPTH = 100


def readable_name(name: str) -> str:
    """Return a vSphere name as people write it: vSphere stores `/`, `\\` and `%` as %2f, %5c and %25."""
    for code, character in (("%2f", "/"), ("%2F", "/"), ("%5c", "\\"), ("%5C", "\\"), ("%25", "%")):
        name = name.replace(code, character)
    return name


_HOST_ATTRIBUTES = {"runtime.inMaintenanceMode": "inMaintenance", "overallStatus": "status", "parent": "cluster"}


def _tied_to_hosts(config: Any) -> list[str]:
    """Return the ids of the VMs that a rule of the cluster ties to some of its hosts, or keeps from them."""
    groups = {group.name: group for group in getattr(config, "group", None) or ()}
    tied: set[str] = set()
    for rule in getattr(config, "rule", None) or ():
        if isinstance(rule, vim.cluster.VmHostRuleInfo) and rule.enabled is not False:
            group = groups.get(rule.vmGroupName)
            tied.update(moref(vm) for vm in getattr(group, "vm", None) or ())
    return sorted(tied)


def _above(entry: Found) -> Any:
    """Return what an object lies in for people: a vApp in a folder or another vApp, not in its resource pool."""
    own = entry.properties
    return own.get("parentVApp") or own.get("parentFolder") if entry.kind == "VirtualApp" else own.get("parent")


def opaque_network_id(entry: Found) -> str:
    """Return the id by which cards name an opaque (NSX) network, "" for anything else."""
    return str(getattr(entry.properties.get("summary"), "opaqueNetworkId", None) or "")


class Surroundings:
    """An index over the objects around the VMs. Unknown ids give empty names, never an error."""

    def __init__(self, found: Iterable[Found]) -> None:
        self._by_id = {entry.id: entry for entry in found}
        self._tied_vms: dict[str, list[str]] = {}
        self._portgroup = {
            entry.properties["key"]: entry.id for entry in self._by_id.values() if "key" in entry.properties
        }
        self._opaque = {key: entry.id for entry in self._by_id.values() if (key := opaque_network_id(entry))}

    def name(self, object_id: str) -> str:
        """Return the object's name."""
        entry = self._by_id.get(object_id)
        return readable_name(entry.properties.get("name", "")) if entry else ""

    def entries(self) -> Iterable[Found]:
        """Return all objects."""
        return self._by_id.values()

    def reference(self, object_id: str) -> dict[str, Any]:
        """Return `{"id", "name"}` for a document."""
        return {"id": object_id, "name": self.name(object_id)}

    def portgroup(self, key: str) -> str:
        """Return the id of the distributed portgroup with that key."""
        return self._portgroup.get(key, key)

    def opaque_network(self, network_id: str) -> str:
        """Return the object's id of the opaque network that cards know by `network_id`."""
        return self._opaque.get(network_id, network_id)

    def network_named(self, name: str) -> str:
        """Return the id of the standard or opaque network of that name, "" when there is none."""
        for entry in self._by_id.values():
            if entry.kind in ("Network", "OpaqueNetwork") and self.name(entry.id) == name:
                return entry.id
        return ""

    def datacenter_of(self, object_id: str) -> str:
        """Return the id of the datacenter above an object, "" when it cannot be seen."""
        return next((entry.id for entry in self._upwards(object_id) if entry.kind == "Datacenter"), "")

    def folder_of(self, object_id: str) -> str:
        """Return the id of the folder that an object is or lies in, "" when it cannot be seen."""
        return next((entry.id for entry in self._upwards(object_id) if entry.kind == "Folder"), "")

    def path(self, object_id: str, *, escaped: bool = False) -> str:
        """Return the inventory path from below the root down to the object, without vSphere's hidden folders.

        `escaped` keeps vSphere's own escapes and is what `dcPath` of a datastore URL wants.
        """
        chain = list(self._upwards(object_id))
        names: list[str] = []
        for position, entry in enumerate(chain):
            above = chain[position + 1] if position + 1 < len(chain) else None
            hidden = entry.kind == "Folder" and above is not None and above.kind == "Datacenter"
            if above is None and entry.kind == "Folder" and not entry.properties.get("parent"):
                continue  # the root folder
            if hidden and entry.properties.get("name") in _HIDDEN_FOLDERS:
                continue
            names.append(entry.properties.get("name", "") if escaped else self.name(entry.id))
        return "/".join(reversed(names))

    def host_of_vm(self, host_id: str, vm_id: str) -> dict[str, Any]:
        """Return the host of a VM; of the VMs that its cluster ties to hosts only this one is named.

        All of them in each VM's document would grow with the square of the VMs, and one more would change them all.
        """
        document = self.host(host_id)
        cluster = document.get("cluster", {})
        if "hostAffinityVms" in cluster:
            cluster["hostAffinityVms"] = [vm for vm in cluster["hostAffinityVms"] if vm["id"] == vm_id]
        return document

    def host(self, host_id: str) -> dict[str, Any]:
        """Return a host as documents carry it, with its cluster inside."""
        entry = self._by_id.get(host_id)
        if entry is None:
            return self.reference(host_id)
        document = {
            **self.reference(host_id),
            "inMaintenance": bool(entry.properties.get("runtime.inMaintenanceMode", False)),
            "status": str(entry.properties.get("overallStatus", "")),
            "cluster": self.cluster(moref(entry.properties.get("parent"))),
        }
        for path, attribute in _HOST_ATTRIBUTES.items():
            if path in entry.unreadable:
                del document[attribute]  # rules about it stay silent
        return document

    def datastore_type(self, datastore_id: str) -> str:
        """Return VMFS, NFS, NFS41, vsan, VVOL, OTHER …; "" when the datastore cannot be seen."""
        entry = self._by_id.get(datastore_id)
        return str(entry.properties.get("summary.type", "")) if entry else ""

    def cluster(self, cluster_id: str) -> dict[str, Any]:
        """Return a cluster as documents carry it; what the user may not read is left out, so that rules stay silent."""
        entry = self._by_id.get(cluster_id)
        if entry is None or "configurationEx" in entry.unreadable:
            return self.reference(cluster_id)
        config = entry.properties.get("configurationEx")
        das, drs = getattr(config, "dasConfig", None), getattr(config, "drsConfig", None)
        dpm = getattr(config, "dpmConfigInfo", None)
        return {
            **self.reference(cluster_id),
            "dasEnabled": bool(getattr(das, "enabled", False)),
            "drsEnabled": bool(getattr(drs, "enabled", False)),
            "drsBehavior": str(getattr(drs, "defaultVmBehavior", None) or ""),
            "dpmEnabled": bool(getattr(dpm, "enabled", False)),
            "hostAffinityVms": [{"id": vm_id} for vm_id in self._tied(cluster_id, config)],
        }

    def _tied(self, cluster_id: str, config: Any) -> list[str]:
        if cluster_id not in self._tied_vms:
            self._tied_vms[cluster_id] = _tied_to_hosts(config)
        return self._tied_vms[cluster_id]

    def _upwards(self, object_id: str) -> Iterable[Found]:
        for _ in range(_MAX_DEPTH):
            entry = self._by_id.get(object_id)
            if entry is None:
                return
            yield entry
            object_id = moref(_above(entry))
