"""Servers as workload documents (names of the rule language) and as `SourceVm`. Pure.

Units: volume `size`, flavor `disk` and image `minDisk` in GiB, flavor `ram` and image `minRAM` in MiB, sizes of images
in bytes. A server that boots from a volume has no image of its own; the properties that its volume keeps of one are
then what nova goes by, and stand in `image`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mtv.model.source import Firmware, PowerState, SourceDisk, SourceNic, SourceVm
from mtv.providers.openstack.collect import Surroundings
from mtv.providers.openstack.export import SERVER_MARK

PROVIDER = "openstack"
IMAGE_STORAGE = "glance"
"""Key of the storage map for the root disk of a server that boots from an image."""

_POWER = {
    "ACTIVE": PowerState.ON,
    "PASSWORD": PowerState.ON,
    "REBOOT": PowerState.ON,
    "HARD_REBOOT": PowerState.ON,
    "SHUTOFF": PowerState.OFF,
    "SUSPENDED": PowerState.SUSPENDED,
    "PAUSED": PowerState.SUSPENDED,
}
_IMAGE_FIELDS = {
    "id": "id",
    "name": "name",
    "status": "status",
    "disk_format": "diskFormat",
    "container_format": "containerFormat",
    "size": "sizeBytes",
    "virtual_size": "virtualSize",
    "min_disk": "minDisk",
    "min_ram": "minRAM",
    "tags": "tags",
    "checksum": "checksum",
    "visibility": "visibility",
    "created_at": "createdAt",
    "updated_at": "updatedAt",
    "protected": "protected",
}
_NO_PROPERTIES = {*_IMAGE_FIELDS, "owner", "file", "schema", "self", "locations", "direct_url", "stores", "os_hidden"}
_DEVICES = ("vd", "sd", "hd")
_BUSES = {"ide": "ide", "sata": "sata", "scsi": "scsi"}


def power_state(status: Any) -> PowerState:
    """Nova's status in our words."""
    return _POWER.get(str(status), PowerState.UNKNOWN)


def build_vms(servers: Sequence[Mapping[str, Any]], around: Surroundings) -> list[SourceVm]:
    """Build the VMs, sorted by name and id."""
    names = Counter(str(network.get("name", "")) for network in around.networks.values())
    flavor_ids = {str(flavor["name"]): key for key, flavor in around.flavors.items()}
    built = [_source_vm(_document(server, around, flavor_ids), server, around, names) for server in servers]
    return sorted(built, key=lambda vm: (vm.name, vm.id))


def _document(server: Mapping[str, Any], around: Surroundings, flavor_ids: Mapping[str, str]) -> dict[str, Any]:
    attached = [entry["id"] for entry in server.get("os-extended-volumes:volumes_attached") or ()]
    found = [around.volumes[key] for key in attached if key in around.volumes]
    volumes = sorted((_volume(volume) for volume in found), key=lambda volume: _place(volume, server))
    image_id = str((server.get("image") or {}).get("id", ""))
    types = {str(kind.get("name", "")): kind for kind in around.volume_types.values()}
    used = {network for port in around.ports.get(server["id"], ()) if (network := port.get("network_id"))}
    fault = server.get("fault") or {}
    document: dict[str, Any] = {
        "id": server["id"],
        "name": server.get("name"),
        "tenantID": server.get("tenant_id"),
        "userID": server.get("user_id"),
        "hostID": server.get("hostId"),
        "status": server.get("status"),
        "created": server.get("created"),
        "updated": server.get("updated"),
        "progress": server.get("progress", 0),
        "accessIPv4": server.get("accessIPv4", ""),
        "accessIPv6": server.get("accessIPv6", ""),
        "imageID": image_id,
        "flavorID": flavor_ids.get(_flavor_name(server), ""),
        "addresses": server.get("addresses") or {},
        "metadata": server.get("metadata") or {},
        "keyName": server.get("key_name") or "",
        "securityGroups": server.get("security_groups") or [],
        "attachedVolumes": [{"ID": key} for key in attached],
        "fault": {"code": fault.get("code", 0), "message": fault.get("message", "")},
        "tags": server.get("tags") or [],
        "serverGroups": server.get("server_groups") or [],
        "availabilityZone": server.get("OS-EXT-AZ:availability_zone") or "",
        "flavor": _flavor(server, flavor_ids),
        "volumes": volumes,
        "volumeTypes": [_volume_type(types[name]) for name in _names(volumes) if name in types],
        "snapshots": [_snapshot(entry) for entry in around.snapshots.values() if _is_theirs(entry, attached)],
        "networks": [_network(network) for key, network in around.networks.items() if key in used],
        "subnets": [_subnet(subnet) for subnet in around.subnets.values() if subnet.get("network_id") in used],
        "ports": [_port(port) for port in _in_order(around.ports.get(server["id"], ()), server, around)],
        "unreadable": [f"volumes.{key}" for key in attached if key not in around.volumes],
    }
    image = _image(image_id, volumes, around)
    if image:
        document["image"] = image
    return document


def _image(image_id: str, volumes: Sequence[Mapping[str, Any]], around: Surroundings) -> dict[str, Any]:
    if image_id:
        if image_id not in around.images:
            return {}  # deleted since: nobody can tell what it asked for
        image = around.images[image_id]
        known = {ours: image[theirs] for theirs, ours in _IMAGE_FIELDS.items() if theirs in image}
        return {**known, "properties": {key: value for key, value in image.items() if key not in _NO_PROPERTIES}}
    kept = dict(volumes[0]["volumeImageMetadata"]) if volumes else {}
    if not kept:
        return {}
    known = {ours: kept[theirs] for theirs, ours in (("image_id", "id"), ("image_name", "name")) if theirs in kept}
    fields = {*_IMAGE_FIELDS, "image_id", "image_name"}
    return {**known, "properties": {key: value for key, value in kept.items() if key not in fields}}


def _flavor_name(server: Mapping[str, Any]) -> str:
    return str((server.get("flavor") or {}).get("original_name", ""))


def _flavor(server: Mapping[str, Any], flavor_ids: Mapping[str, str]) -> dict[str, Any]:
    """As it was when the server was made: a flavor of that name may be another one by now, or gone."""
    flavor = server.get("flavor") or {}
    name = _flavor_name(server)
    built = {
        "id": flavor_ids.get(name, ""),
        "name": name,
        **{key: flavor.get(key) for key in ("disk", "ram", "vcpus", "swap", "ephemeral")},
    }
    if "extra_specs" in flavor:  # a policy may hide them; then nobody can tell
        built["extraSpecs"] = flavor["extra_specs"]
    return built


def _volume(volume: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": volume["id"],
        "name": volume.get("name") or "",
        "status": volume.get("status"),
        "size": volume.get("size"),
        "availabilityZone": volume.get("availability_zone"),
        "attachments": volume.get("attachments") or [],
        "volumeType": volume.get("volume_type") or "",
        "snapshotID": volume.get("snapshot_id") or "",
        "sourceVolID": volume.get("source_volid") or "",
        "metadata": volume.get("metadata") or {},
        "bootable": str(volume.get("bootable", "")).lower() == "true",
        "encrypted": bool(volume.get("encrypted")),
        "multiattach": bool(volume.get("multiattach")),
        "volumeImageMetadata": volume.get("volume_image_metadata") or {},
        "updatedAt": volume.get("updated_at") or "",
    }


def _place(volume: Mapping[str, Any], server: Mapping[str, Any]) -> tuple[bool, int, int, str]:
    """Order of a server's volumes: its root, as far as the user may know it, then /dev/vdb before /dev/vdaa.

    A volume on another bus than virtio beside one on it is most often a CD-ROM, and that on IDE one beside SCSI.
    """
    device = next(
        (str(entry.get("device") or "") for entry in volume["attachments"] if entry["server_id"] == server["id"]), ""
    )
    bus = device.removeprefix("/dev/")[:2]
    rank = _DEVICES.index(bus) if bus in _DEVICES else len(_DEVICES)
    return device != server.get("OS-EXT-SRV-ATTR:root_device_name"), rank, len(device), device


def _volume_type(kind: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": kind["id"],
        "name": kind.get("name"),
        "extraSpecs": kind.get("extra_specs") or {},
        "qosSpecID": kind.get("qos_specs_id") or "",
        "isPublic": bool(kind.get("is_public", True)),
    }


def _is_theirs(snapshot: Mapping[str, Any], volume_ids: Sequence[str]) -> bool:
    """Whether somebody has made it; those of a migration come and go while nobody changes the server."""
    return snapshot.get("volume_id") in volume_ids and SERVER_MARK not in (snapshot.get("metadata") or {})


def _snapshot(snapshot: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": snapshot["id"],
        "name": snapshot.get("name") or "",
        "volumeID": snapshot.get("volume_id"),
        "status": snapshot.get("status"),
        "size": snapshot.get("size"),
        "metadata": snapshot.get("metadata") or {},
    }


def _network(network: Mapping[str, Any]) -> dict[str, Any]:
    return {key: network.get(key) for key in ("id", "name", "status", "subnets")}


def _subnet(subnet: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": subnet["id"],
        "name": subnet.get("name"),
        "networkID": subnet.get("network_id"),
        "cidr": subnet.get("cidr"),
        "gateway": subnet.get("gateway_ip"),
        "dns": subnet.get("dns_nameservers") or [],
        "allocationPools": subnet.get("allocation_pools") or [],
        "hostRoutes": subnet.get("host_routes") or [],
        "dhcp": bool(subnet.get("enable_dhcp")),
    }


def _port(port: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": port["id"],
        "networkID": port.get("network_id"),
        "mac": str(port.get("mac_address", "")).lower(),
        "fixedIPs": port.get("fixed_ips") or [],
        "up": bool(port.get("admin_state_up", True)),
    }


def _in_order(
    ports: Iterable[Mapping[str, Any]], server: Mapping[str, Any], around: Surroundings
) -> list[Mapping[str, Any]]:
    """Sort ports as the guest sees its cards.

    Nova keeps that order in a server's addresses, network by network. Neutron's times do not tell it: they are in whole
    seconds, and ports may be older than the server. Nor do neutron's names: nova may know a network by an older one. A
    port without an address is known there by its network alone.
    """
    addresses: Mapping[str, Sequence[Mapping[str, Any]]] = server.get("addresses") or {}
    networks = {name: rank for rank, name in enumerate(addresses)}
    cards: dict[str, tuple[int, int]] = {}
    for name, found in addresses.items():
        for card, entry in enumerate(found):  # floating addresses stand last, with the MAC of a card that was told
            cards.setdefault(str(entry.get("OS-EXT-IPS-MAC:mac_addr", "")).lower(), (networks[name], card))

    def place(port: Mapping[str, Any]) -> tuple[tuple[int, int], str, str]:
        network = str(around.networks.get(port.get("network_id", ""), {}).get("name", ""))
        alone = (networks.get(network, len(networks)), len(cards))
        mac = str(port.get("mac_address", "")).lower()
        return cards.get(mac, alone), str(port.get("created_at", "")), port["id"]

    return sorted(ports, key=place)


def _names(volumes: Iterable[Mapping[str, Any]]) -> list[str]:
    return sorted({volume["volumeType"] for volume in volumes if volume["volumeType"]})


def _source_vm(
    document: dict[str, Any], server: Mapping[str, Any], around: Surroundings, network_names: Mapping[str, int]
) -> SourceVm:
    flavor, asked = document["flavor"], document.get("image", {}).get("properties", {})
    specs = flavor.get("extraSpecs") or {}
    vcpus = int(flavor["vcpus"] or 1)
    cores, threads = _topology(vcpus, specs, asked)
    secure = "required" in (specs.get("os:secure_boot"), asked.get("os_secure_boot"))
    model = str(asked.get("hw_vif_model") or "virtio")
    return SourceVm(
        provider=PROVIDER,
        id=document["id"],
        name=str(document["name"] or ""),
        uuid=document["id"],
        power=power_state(document["status"]),
        cpu_count=vcpus,
        cores_per_socket=cores,
        threads_per_core=threads,
        dedicated_cpus="dedicated" in (specs.get("hw:cpu_policy"), asked.get("hw_cpu_policy")),
        memory_bytes=int(flavor["ram"] or 0) << 20,
        firmware=Firmware.EFI if asked.get("hw_firmware_type") == "uefi" else Firmware.BIOS,
        secure_boot=secure,
        tpm=bool(specs.get("hw:tpm_version") or asked.get("hw_tpm_version")),
        guest_os=" ".join(str(asked[key]) for key in ("os_distro", "os_version") if asked.get(key)),
        host=str(server.get("hostId") or ""),
        disks=tuple(_disks(document, around)),
        nics=tuple(_nics(document, around, network_names, model)),
        document=document,
    )


def _topology(vcpus: int, specs: Mapping[str, Any], asked: Mapping[str, Any]) -> tuple[int, int]:
    """Cores of a socket and threads of a core, as flavor or image ask for them or limit them; one of each if that does
    not divide.
    """

    def number(what: str) -> int:
        text = str(specs.get(f"hw:cpu_{what}") or asked.get(f"hw_cpu_{what}") or "")
        return int(text) if text.isdecimal() else 0

    if not any(map(number, ("sockets", "cores", "threads"))):
        most = {what: number(f"max_{what}") or vcpus for what in ("sockets", "cores", "threads")}
        return _topology_within(vcpus, most["sockets"], most["cores"], most["threads"])
    threads = max(1, number("threads"))
    cores = number("cores") or (vcpus // threads // sockets if (sockets := number("sockets")) else 1)
    return (cores, threads) if cores and vcpus % (cores * threads) == 0 else (1, 1)


def _topology_within(vcpus: int, max_sockets: int, max_cores: int, max_threads: int) -> tuple[int, int]:
    """As many sockets as may be, then as many cores, as nova chooses."""
    for sockets in range(min(vcpus, max_sockets), 0, -1):
        for cores in range(min(vcpus // sockets, max_cores), 0, -1):
            threads, rest = divmod(vcpus, sockets * cores)
            if rest == 0 and threads <= max_threads:
                return cores, threads
    return 1, 1


def _disks(document: Mapping[str, Any], around: Surroundings) -> Iterable[SourceDisk]:
    asked = document.get("image", {}).get("properties", {})
    bus = _BUSES.get(str(asked.get("hw_disk_bus")), "virtio")
    # Nova stamps a server whenever its power or its devices change, cinder a volume when it is attached or grown.
    ran = f"server={document['updated']}"
    index = 0
    if document["imageID"]:
        yield _root_disk(document, around, bus, ran)
        index = 1
    for position, volume in enumerate(document["volumes"], start=index):
        yield SourceDisk(
            id=volume["id"],
            index=position,
            size_bytes=max(0, int(volume["size"] or 0)) << 30,
            bus=bus,
            identity=f"volume {volume['id']}",
            generation=f"{ran};volume={volume['updatedAt']}",
            storage=volume["volumeType"],
            locator={"kind": "volume", "volume": volume["id"], "encrypted": volume["encrypted"]},
            serial=volume["id"],
            shared=len(volume["attachments"]) > 1,
        )


def _root_disk(document: Mapping[str, Any], around: Surroundings, bus: str, ran: str) -> SourceDisk:
    image = around.images.get(document["imageID"], {})
    of_flavor = int(document["flavor"]["disk"] or 0) << 30
    return SourceDisk(
        id="root",
        index=0,
        size_bytes=of_flavor or int(image.get("virtual_size") or image.get("size") or 0),
        bus=bus,
        identity=f"root disk of {document['id']}",
        generation=ran,
        storage=IMAGE_STORAGE,
        locator={"kind": "image", "image": document["imageID"]},
    )


def _nics(
    document: Mapping[str, Any], around: Surroundings, names: Mapping[str, int], model: str
) -> Iterable[SourceNic]:
    for index, port in enumerate(document["ports"]):
        network = around.networks.get(port["networkID"], {})
        name = str(network.get("name") or "")
        # Names need not be unique; then only the id says which one is meant.
        key = name if names.get(name) == 1 else str(port["networkID"] or "")
        yield SourceNic(index=index, network=key, mac=port["mac"], model=model, connected=port["up"])
