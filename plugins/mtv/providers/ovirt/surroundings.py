"""What VMs refer to by id (hosts, clusters, networks, profiles, storage domains), as documents carry it.

Unknown ids give empty names, never an error; what could not be read has no attributes beyond its name, so that rules
about it stay silent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mtv.model.source import Thing
from mtv.providers.ovirt.collect import Around


def text(value: Any) -> str:
    """Return an enumeration's word or a text; "" for nothing."""
    return "" if value is None else str(getattr(value, "value", value))


def id_of(reference: Any) -> str:
    """Return the id of a referred object; "" for none."""
    return "" if reference is None else str(reference.id or "")


def properties(found: Any) -> list[dict[str, str]]:
    """Return custom properties as names and values."""
    return [{"name": text(each.name), "value": text(each.value)} for each in found or ()]


class Surroundings:
    """An index over the objects around the VMs."""

    def __init__(self, around: Around) -> None:
        self.unreadable = around.unreadable
        self._by_id = {name: {each.id: each for each in objects} for name, objects in around.objects.items()}

    def get(self, collection: str, object_id: str) -> Any:
        """Return the object, None when it is not known."""
        return self._by_id.get(collection, {}).get(object_id)

    def reference(self, collection: str, object_id: str) -> dict[str, Any]:
        """Return `{"id", "name"}` for a document."""
        found = self.get(collection, object_id)
        return {"id": object_id, "name": text(found.name) if found is not None else ""}

    def cluster(self, cluster_id: str) -> dict[str, Any]:
        """Return a cluster as documents carry it."""
        plain = self.reference("clusters", cluster_id)
        found = self.get("clusters", cluster_id)
        if found is None:
            return plain
        version = found.version
        return {
            **plain,
            "dataCenter": self.reference("data_centers", id_of(found.data_center)),
            "haReservation": bool(found.ha_reservation),
            "ksmEnabled": bool(found.ksm is not None and found.ksm.enabled),
            "biosType": text(found.bios_type),
            "cpu": {
                "architecture": text(found.cpu.architecture) if found.cpu is not None else "",
                "type": text(found.cpu.type) if found.cpu is not None else "",
            },
            "version": f"{version.major}.{version.minor}" if version is not None else "",
        }

    def host(self, host_id: str) -> dict[str, Any]:
        """Return a host as documents carry it, with its cluster inside."""
        plain = self.reference("hosts", host_id)
        found = self.get("hosts", host_id)
        if found is None:
            return plain
        status = text(found.status)
        return {
            **plain,
            "status": status,
            "inMaintenance": status in ("maintenance", "preparing_for_maintenance"),
            "product": text(found.os.type) if found.os is not None else "",
            "cluster": self.cluster(id_of(found.cluster)),
        }

    def nic_profile(self, profile_id: str) -> dict[str, Any]:
        """Return a NIC profile with its network; a card without profile has one with empty attributes."""
        plain = self.reference("vnic_profiles", profile_id)
        found = self.get("vnic_profiles", profile_id)
        if found is None and profile_id:
            return plain
        filtered = getattr(found, "network_filter", None)
        passed = getattr(found, "pass_through", None)
        return {
            **plain,
            "network": self.reference("networks", id_of(getattr(found, "network", None))),
            "networkFilter": text(filtered.name or filtered.id) if filtered is not None else "",
            "portMirroring": bool(getattr(found, "port_mirroring", False)),
            "qos": id_of(getattr(found, "qos", None)),
            "properties": properties(getattr(found, "custom_properties", None)),
            "passThrough": passed is not None and text(passed.mode) == "enabled",
        }

    def storage_domain(self, domain_id: str) -> dict[str, Any]:
        """Return a storage domain; sizes in bytes."""
        plain = self.reference("storage_domains", domain_id)
        found = self.get("storage_domains", domain_id)
        if found is None:
            return plain
        return {
            **plain,
            "type": text(found.type),
            "storage": {"type": text(found.storage.type) if found.storage is not None else ""},
            "available": found.available or 0,
            "used": found.used or 0,
        }

    def data_center(self, center_id: str) -> dict[str, Any]:
        """Return a data centre."""
        return self.reference("data_centers", center_id)

    def network(self, network_id: str) -> dict[str, Any]:
        """Return a network; `vlan` is "" where its frames are untagged."""
        plain = self.reference("networks", network_id)
        found = self.get("networks", network_id)
        if found is None:
            return plain
        return {
            **plain,
            "dataCenter": self.reference("data_centers", id_of(found.data_center)),
            "vlan": str(found.vlan.id) if found.vlan is not None and found.vlan.id is not None else "",
            "usages": sorted(text(usage) for usage in found.usages or ()),
        }

    def things(self) -> list[Thing]:
        """Return everything that inventories list, whether a VM uses it or not."""
        makers = {
            "datacenter": ("data_centers", self.data_center),
            "cluster": ("clusters", self.cluster),
            "host": ("hosts", self.host),
            "datastore": ("storage_domains", self.storage_domain),
            "network": ("networks", self.network),
        }
        return [
            Thing(kind, object_id, document["name"], document)
            for kind, (collection, make) in makers.items()
            for object_id in self._by_id.get(collection, {})
            for document in (make(object_id),)
        ]

    def disk_profile(self, profile_id: str) -> Mapping[str, Any]:
        """Return a disk profile."""
        return self.reference("disk_profiles", profile_id)
