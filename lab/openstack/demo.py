"""What the lab's OpenStack holds: its catalog, a user with a project of its own, and servers of several kinds.

db-1    boots from a volume of type gold, has a second volume of type silver and two network cards; ACTIVE
web-1   boots from the image `guest`, has a volume of type silver with a snapshot; SHUTOFF
odd-1   a flavor and an image with properties that rules speak of: UEFI, Secure Boot, TPM, CPU shares, watchdog
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lab.openstack.configuration import APIS, REGION, Layout
from mtv.model.errors import PermanentError

_KINDS: Mapping[str, str] = {
    "glance": "image",
    "cinder": "block-storage",
    "placement": "placement",
    "nova": "compute",
    "neutron": "network",
}
GUEST_BYTES = 9 << 20
_WAIT_S = 300
_WORKERS = (
    ("cinder-scheduler", ""),
    ("cinder-volume", "gold"),
    ("cinder-volume", "silver"),
    ("nova-conductor", ""),
    ("nova-scheduler", ""),
    ("nova-compute", ""),
)
"""Programs, and the backends of those that have one process for each."""
ODD_IMAGE = {
    "hw_firmware_type": "uefi",
    "os_secure_boot": "required",
    "hw_machine_type": "q35",
    "hw_disk_bus": "scsi",
    "hw_vif_model": "e1000",
    "hw_tpm_model": "tpm-crb",
    "hw_tpm_version": "2.0",
    "hw_boot_menu": "true",
    "os_distro": "ubuntu",
    "os_version": "22.04",
}
ODD_FLAVOR = {
    "quota:cpu_shares": "512",
    "hw:watchdog_action": "reset",
    "hw:pci_numa_affinity_policy": "preferred",
    "hw:cpu_sockets": "1",
    "hw:cpu_cores": "2",
}


def register_services(admin: Any, layout: Layout) -> None:
    """Make the catalog, and the user by which the services know each other."""
    project = admin.identity.create_project(name="service", domain_id="default")
    user = admin.identity.create_user(name="services", password=layout.service_password, domain_id="default")
    roles = {role.name: role for role in admin.identity.roles()}
    for role in ("admin", "service"):
        admin.identity.assign_project_role_to_user(project, user, roles[role])
    for name in APIS:
        if name in _KINDS:
            service = admin.identity.create_service(name=name, type=_KINDS[name])
            for interface, url in (("public", layout.public_url(name)), ("internal", layout.url(name))):
                admin.identity.create_endpoint(service_id=service.id, interface=interface, url=url, region_id=REGION)


def create_user(admin: Any, project: str, user: str, password: str) -> None:
    """Make a project and a user who is an ordinary member of it."""
    owned = admin.identity.create_project(name=project, domain_id="default")
    made = admin.identity.create_user(name=user, password=password, domain_id="default")
    admin.identity.assign_project_role_to_user(owned, made, admin.identity.find_role("member"))


def missing_workers(admin: Any) -> list[str]:
    """What of the workers is not there yet, so that volumes and servers cannot be made."""
    up = {
        (service.binary, service.host.partition("@")[2])
        for service in (*admin.block_storage.services(), *admin.compute.services())
        if service.state == "up"
    }
    missing = [f"{binary} {backend}".rstrip() for binary, backend in _WORKERS if (binary, backend) not in up]
    if missing:
        return missing
    # A program that is up may not be known yet to the one that would send it work.
    pools = {pool.name.partition("@")[2].partition("#")[0] for pool in admin.block_storage.backend_pools()}
    missing += [f"cinder-scheduler knowing {backend}" for _, backend in _WORKERS if backend and backend not in pools]
    if not list(admin.compute.hypervisors()):
        missing.append("nova-scheduler knowing the host")
    providers = list(admin.placement.resource_providers())
    if not any(list(admin.placement.resource_provider_inventories(provider)) for provider in providers):
        missing.append("nova-compute telling placement what it has")
    return missing


def create_types(admin: Any) -> dict[str, str]:
    """Make volume types and flavors; gives the flavors' ids."""
    for name in ("gold", "silver"):
        admin.block_storage.create_type(name=name, extra_specs={"volume_backend_name": name})
    small = admin.compute.create_flavor(name="small", ram=256, vcpus=2, disk=1)
    odd = admin.compute.create_flavor(name="odd", ram=512, vcpus=2, disk=1)
    admin.compute.create_flavor_extra_specs(odd, ODD_FLAVOR)
    return {"small": small.id, "odd": odd.id}


def create_project(member: Any, folder: Path, flavors: Mapping[str, str]) -> dict[str, Any]:
    """Fill the project; gives ids by name, and the path and digest of the image's content."""
    guest = folder / "data" / "guest.raw"
    _write_guest(guest)
    images = {
        "guest": _image(member, "guest", guest, {"os_distro": "centos", "os_version": "9"}),
        "odd": _image(member, "odd", guest, ODD_IMAGE),
    }
    networks = {name: _network(member, name, cidr) for name, cidr in (("blue", "10.9.1.0/24"), ("red", "10.9.2.0/24"))}
    volumes = {
        "db-root": member.block_storage.create_volume(
            name="db-root", size=1, volume_type="gold", image_id=images["guest"]
        ),
        "db-data": member.block_storage.create_volume(name="db-data", size=1, volume_type="silver"),
        "web-data": member.block_storage.create_volume(name="web-data", size=2, volume_type="silver"),
    }
    servers = {
        "web-1": member.compute.create_server(
            name="web-1", flavor_id=flavors["small"], image_id=images["guest"], networks=[{"uuid": networks["blue"]}]
        ),
        "odd-1": member.compute.create_server(
            name="odd-1", flavor_id=flavors["odd"], image_id=images["odd"], networks=[{"uuid": networks["red"]}]
        ),
    }
    for volume in volumes.values():
        member.block_storage.wait_for_status(volume, "available", failures=["error"], interval=0.3, wait=_WAIT_S)
    boot = {"source_type": "volume", "destination_type": "volume", "delete_on_termination": False}
    servers["db-1"] = member.compute.create_server(
        name="db-1",
        flavor_id=flavors["small"],
        networks=[{"uuid": networks["blue"]}, {"uuid": networks["red"]}],
        block_device_mapping=[
            {**boot, "boot_index": 0, "uuid": volumes["db-root"].id},
            {**boot, "boot_index": -1, "uuid": volumes["db-data"].id},
        ],
    )
    for server in servers.values():
        member.compute.wait_for_server(server, "ACTIVE", interval=0.3, wait=_WAIT_S)
    member.compute.create_volume_attachment(servers["web-1"], volume_id=volumes["web-data"].id)
    member.block_storage.wait_for_status(volumes["web-data"], "in-use", interval=0.3, wait=_WAIT_S)
    member.compute.stop_server(servers["web-1"])
    snapshot = member.block_storage.create_snapshot(volume_id=volumes["web-data"].id, name="before", force=True)
    member.block_storage.wait_for_status(snapshot, "available", failures=["error"], interval=0.3, wait=_WAIT_S)
    member.compute.wait_for_server(servers["web-1"], "SHUTOFF", interval=0.3, wait=_WAIT_S)
    return {
        "servers": {name: server.id for name, server in servers.items()},
        "volumes": {name: volume.id for name, volume in volumes.items()},
        "images": images,
        "networks": networks,
        "flavors": dict(flavors),
        "guest": {"path": str(guest), "sha512": hashlib.sha512(guest.read_bytes()).hexdigest()},
    }


def _write_guest(path: Path) -> None:
    """Bytes that no two places share, with a hole in the middle."""
    block = 64 << 10
    with path.open("wb") as file:
        file.truncate(GUEST_BYTES)
        for offset in range(0, GUEST_BYTES, block):
            if not 3 << 20 <= offset < 5 << 20:
                file.seek(offset)
                file.write(hashlib.shake_128(str(offset).encode()).digest(block))


def _image(member: Any, name: str, content: Path, properties: Mapping[str, str]) -> str:
    with content.open("rb") as data:  # given a name, the SDK leaves its file open
        made = member.image.create_image(name, data=data, disk_format="raw", container_format="bare", **properties)
    image = member.image.get_image(made.id)  # the data is there when the call returns
    if image.status != "active":
        raise PermanentError(f"the image {name} is {image.status}")
    return str(image.id)


def _network(member: Any, name: str, cidr: str) -> str:
    network = member.network.create_network(name=name)
    member.network.create_subnet(network_id=network.id, name=name, ip_version=4, cidr=cidr)
    return str(network.id)
