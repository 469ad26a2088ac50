"""The VirtualMachine of a source VM, as a plain manifest. Pure: same values in, same manifest out.

KubeVirt accepts several things that are wrong (a firmware uuid that is none, a volume without a disk, no card at all
meaning one on the pod network); they are decided here instead.
"""

from __future__ import annotations

import copy
import re
import uuid
from collections.abc import Mapping
from typing import Any

import msgspec

from mtv.kubevirt import labels
from mtv.kubevirt.claims import MIB
from mtv.kubevirt.devices import SRIOV, card_model, disk_bus, disk_serial, tablet_bus
from mtv.kubevirt.names import boot_proof
from mtv.model.errors import PermanentError
from mtv.model.plan import NetworkTarget
from mtv.model.source import Firmware, SourceNic, SourceVm

API_VERSION = "kubevirt.io/v1"
_MAC = re.compile(r"([0-9a-f]{2}:){5}[0-9a-f]{2}")
_UUIDS_OF_MTV = uuid.UUID("5f5f7a86-6b1c-5c39-9a0e-3a0a6cf2d1a4")  # namespace of made-up firmware uuids


class TargetVm(msgspec.Struct, frozen=True, kw_only=True):
    """What the plan decided about the VM on the target.

    `claims` holds the claim's name by disk id, `networks` the target by card index; `raw` asks for the devices that an
    unconverted guest knows (SATA, e1000e, USB tablet) instead of virtio. A KVM guest keeps the devices of its source
    either way.
    """

    name: str
    namespace: str
    object_labels: Mapping[str, str]
    root_disk: str
    claims: Mapping[str, str]
    networks: Mapping[int, NetworkTarget]
    raw: bool = False


def virtual_machine(vm: SourceVm, target: TargetVm) -> dict[str, Any]:
    """Return the VirtualMachine (run strategy Halted) that stands in for `vm`.

    Raises `PermanentError` for what cannot be built: a second card on the pod network or on one attachment, a disk
    without a claim, no CPU or memory, a MAC address that is none.
    """
    annotations = {labels.ORIGINAL_ID: vm.id}
    if target.name != vm.name:
        annotations[labels.ORIGINAL_NAME] = vm.name
    return {
        "apiVersion": API_VERSION,
        "kind": "VirtualMachine",
        "metadata": {
            "name": target.name,
            "namespace": target.namespace,
            "labels": {"app": labels.value(target.name), **target.object_labels},
            "annotations": annotations,
        },
        "spec": {
            "runStrategy": "Halted",
            "template": {
                "metadata": {"labels": {"app": labels.value(target.name), **target.object_labels}},
                "spec": _guest(vm, target),
            },
        },
    }


def boot_proof_instance(machine: Mapping[str, Any], object_labels: Mapping[str, str]) -> dict[str, Any]:
    """Return a VirtualMachineInstance that boots `machine`'s disks without changing them, on no network.

    Its volumes are copy-on-write layers over the claims (`ephemeral`), which vanish with the instance; a card would
    bring the source's addresses to life, so there is none; TPM state is not kept.
    """
    spec = copy.deepcopy(dict(machine["spec"]["template"]["spec"]))
    devices = spec["domain"]["devices"]
    devices.pop("interfaces", None)
    spec.pop("networks", None)
    devices["autoattachPodInterface"] = False
    if "tpm" in devices:
        devices["tpm"] = {}
    spec["volumes"] = [
        {"name": volume["name"], "ephemeral": {"persistentVolumeClaim": dict(volume["persistentVolumeClaim"])}}
        for volume in spec["volumes"]
    ]
    spec["terminationGracePeriodSeconds"] = 0
    return {
        "apiVersion": API_VERSION,
        "kind": "VirtualMachineInstance",
        "metadata": {
            "name": boot_proof(machine["metadata"]["name"]),
            "namespace": machine["metadata"]["namespace"],
            "labels": dict(object_labels),
        },
        "spec": spec,
    }


def firmware_uuid(vm: SourceVm) -> str:
    """Return the VM's uuid when it is one, else one made from provider and id: the same at every call."""
    try:
        return str(uuid.UUID(vm.uuid))
    except ValueError:
        return str(uuid.uuid5(_UUIDS_OF_MTV, f"{vm.provider}:{vm.id}"))


def cpu_topology(vm: SourceVm) -> dict[str, int]:
    """Return sockets, cores and threads. Sources whose numbers do not divide the CPUs get one core a socket."""
    if vm.cpu_count < 1:
        raise PermanentError(f"{vm.name} has {vm.cpu_count} CPUs on the source", code="no-cpu")
    cores, threads = vm.cores_per_socket, vm.threads_per_core
    if cores < 1 or threads < 1 or vm.cpu_count % (cores * threads):
        cores, threads = 1, 1
    return {"sockets": vm.cpu_count // (cores * threads), "cores": cores, "threads": threads}


def _guest(vm: SourceVm, target: TargetVm) -> dict[str, Any]:
    disks, volumes = _disks(vm, target)
    interfaces, networks = _cards(vm, target)
    features: dict[str, Any] = {"acpi": {}}
    firmware: dict[str, Any] = {"uuid": firmware_uuid(vm), "serial": vm.serial or firmware_uuid(vm)}
    if vm.firmware is Firmware.EFI:
        firmware["bootloader"] = {"efi": {"secureBoot": vm.secure_boot}}
        if vm.secure_boot:
            features["smm"] = {"enabled": True}  # secure boot without it is refused
    else:
        firmware["bootloader"] = {"bios": {}}
    devices: dict[str, Any] = {
        "disks": disks,
        "inputs": [{"name": "tablet", "type": "tablet", "bus": tablet_bus(vm, raw=target.raw)}],
        "logSerialConsole": True,  # the console is what proves the boot
    }
    if interfaces:
        devices["interfaces"] = interfaces
    else:
        devices["autoattachPodInterface"] = False  # KubeVirt adds a card of its own otherwise
    if vm.tpm:
        devices["tpm"] = {"persistent": True}
    spec: dict[str, Any] = {
        "domain": {
            "cpu": {**cpu_topology(vm), "dedicatedCpuPlacement": True} if vm.dedicated_cpus else cpu_topology(vm),
            "memory": {"guest": _memory(vm)},
            "machine": {"type": "q35"},
            "features": features,
            "firmware": firmware,
            "clock": {"timezone": vm.timezone} if vm.timezone else {"utc": {}},
            "devices": devices,
        },
        "volumes": volumes,
    }
    if networks:
        spec["networks"] = networks
    return spec


def _memory(vm: SourceVm) -> str:
    if vm.memory_bytes < MIB:
        raise PermanentError(f"{vm.name} has {vm.memory_bytes} bytes of memory on the source", code="no-memory")
    return f"{-(-vm.memory_bytes // MIB)}Mi"


def _disks(vm: SourceVm, target: TargetVm) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    disks: list[dict[str, Any]] = []
    volumes: list[dict[str, Any]] = []
    if target.root_disk not in {disk.id for disk in vm.disks}:
        raise PermanentError(f"{vm.name} has no disk {target.root_disk!r} to boot from", code="root-disk-unknown")
    for disk in sorted(vm.disks, key=lambda disk: disk.index):
        claim = target.claims.get(disk.id)
        if claim is None:
            raise PermanentError(f"{vm.name}: disk {disk.id} has no claim", code="claim-missing")
        name = f"vol-{disk.index}"
        entry: dict[str, Any] = {
            "name": name,
            "disk": {"bus": disk_bus(vm, disk, raw=target.raw)},
            "serial": disk_serial(vm, disk),
        }
        if disk.id == target.root_disk:
            entry["bootOrder"] = 1
        if disk.shared:
            entry |= {"shareable": True, "cache": "none"}
        disks.append(entry)
        volumes.append({"name": name, "persistentVolumeClaim": {"claimName": claim}})
    return disks, volumes


def _cards(vm: SourceVm, target: TargetVm) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    interfaces: list[dict[str, Any]] = []
    networks: list[dict[str, Any]] = []
    taken: dict[str, int] = {}
    for nic in sorted(vm.nics, key=lambda nic: nic.index):
        network = target.networks[nic.index]
        if network.type == "ignored":
            continue
        goes_to = "the pod network" if network.type == "pod" else network.name
        if not goes_to:
            raise PermanentError(
                f"{vm.name}: card {nic.index} ({nic.network}) is mapped to multus without a name",
                cure="write name: namespace/attachment in network_map",
                code="network-unnamed",
            )
        if goes_to in taken:
            raise PermanentError(
                f"{vm.name}: cards {taken[goes_to]} and {nic.index} would both be on {goes_to}; one card may",
                cure=f"map {nic.network!r} to another network, or to type: ignored",
                code="network-taken",
            )
        taken[goes_to] = nic.index
        name = f"net-{nic.index}"
        interfaces.append(_card(vm, nic, name, pod=network.type == "pod", raw=target.raw))
        networks.append(
            {"name": name, "pod": {}}
            if network.type == "pod"
            else {"name": name, "multus": {"networkName": network.name}}
        )
    return interfaces, networks


def _card(vm: SourceVm, nic: SourceNic, name: str, *, pod: bool, raw: bool) -> dict[str, Any]:
    model = card_model(vm, nic, raw=raw)
    card: dict[str, Any] = {"name": name}
    if model == SRIOV and not pod:
        card["sriov"] = {}  # a device of the node, which has a model of its own
    else:
        card |= {"model": "virtio" if model == SRIOV else model, "masquerade" if pod else "bridge": {}}
    if nic.mac:
        mac = nic.mac.lower()
        if not _MAC.fullmatch(mac):
            raise PermanentError(f"{vm.name}: card {nic.index} has the MAC address {nic.mac!r}", code="mac-invalid")
        card["macAddress"] = mac
    if not nic.connected and "sriov" not in card:  # KubeVirt refuses a state of such a card; validation tells of it
        card["state"] = "down"
    return card
