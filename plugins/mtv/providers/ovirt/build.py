"""Documents → `SourceVm`. Pure: nothing here speaks to an engine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from tzlocal.windows_tz import win_tz

from mtv.model.source import Firmware, PowerState, SourceDisk, SourceNic, SourceVm
from mtv.providers.ovirt.collect import Found
from mtv.providers.ovirt.devices import lun_bytes
from mtv.providers.ovirt.document import document_of
from mtv.providers.ovirt.surroundings import Surroundings, text

PROVIDER = "ovirt"

_ON = ("up", "powering_up", "powering_down", "reboot_in_progress", "migrating", "wait_for_launch", "not_responding")
_SUSPENDED = ("suspended", "paused", "saving_state", "restoring_state")
_EFI = ("q35_ovmf", "q35_secure_boot")
_TPM_SYSTEMS = ("windows_2022", "windows_11")
_BUSES = {"virtio_scsi": "scsi", "spapr_vscsi": "scsi"}
_UTC = ("", "Etc/GMT", "Etc/UTC", "GMT", "UTC")


def power_state(status: Any) -> PowerState:
    """Return an engine's status in our words. Locked images, or a host that is not known, leave it unknown."""
    word = text(status)
    if word == "down":
        return PowerState.OFF
    if word in _ON:
        return PowerState.ON
    return PowerState.SUSPENDED if word in _SUSPENDED else PowerState.UNKNOWN


def build_vms(found: Sequence[Found], around: Surroundings) -> list[SourceVm]:
    """Build the VMs, in the order of their paths (data centre, cluster, name)."""
    built = [_source_vm(document_of(each, around)) for each in found]
    return sorted(built, key=lambda vm: (vm.document["path"], vm.id))


def _source_vm(document: dict[str, Any]) -> SourceVm:
    cores, threads = document["cpuCores"], document["cpuThreads"]
    return SourceVm(
        provider=PROVIDER,
        id=document["id"],
        name=document["name"],
        uuid=document["id"],  # an engine's guests see the VM's id as the machine's uuid
        power=power_state(document["status"]),
        cpu_count=document["cpuSockets"] * cores * threads,
        cores_per_socket=cores,
        threads_per_core=threads,
        dedicated_cpus=document["cpuPinningPolicy"] == "dedicated",
        memory_bytes=document["memory"],
        firmware=Firmware.EFI if document["bios"] in _EFI else Firmware.BIOS,
        secure_boot=document["bios"] == "q35_secure_boot",
        tpm=document["tpmEnabled"] or document["osType"] in _TPM_SYSTEMS,
        serial=document["serialNumber"],
        timezone=_zone(document["timezone"]),
        guest_os=document["guestName"] or document["osType"],
        host=document["host"]["name"],
        disks=tuple(_source_disks(document)),
        nics=tuple(_source_nics(document.get("nics", ()))),
        document=document,
    )


def _source_disks(document: Mapping[str, Any]) -> Iterable[SourceDisk]:
    # A disk is written while its VM runs and never otherwise, so its last start and stop say whether it may have been.
    ran = f"on={document['startTime']};off={document['stopTime']}"
    for index, attachment in enumerate(document.get("diskAttachments", ())):
        disk = attachment["disk"]
        yield SourceDisk(
            id=disk["id"],
            index=index,
            size_bytes=disk["provisionedSize"] or lun_bytes(disk),
            bus=_BUSES.get(attachment["interface"], attachment["interface"]),
            identity=disk["id"],
            generation=f"image={disk['image']};{ran}",
            storage=disk["storageDomain"]["name"],
            locator={"disk": disk["id"], "storage_type": disk["storageType"]},
            serial=disk["id"],
            shared=disk["shared"],
            allocated_bytes=disk["actualSize"],
        )


def _source_nics(cards: Iterable[Mapping[str, Any]]) -> Iterable[SourceNic]:
    for index, card in enumerate(cards):
        yield SourceNic(
            index=index,
            network=card["profile"].get("network", {}).get("name", ""),
            mac=card["mac"],
            model=card["interface"],
            connected=card["linked"] and card["plugged"],
        )


def _zone(name: str) -> str:
    """Return the IANA name of the hardware clock's zone, which for Windows guests has a name of Windows; "" for UTC."""
    known = win_tz.get(name, name)
    if known in _UTC:
        return ""
    try:
        ZoneInfo(known)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return ""
    return known
