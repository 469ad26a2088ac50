"""One appliance (a tar, or an OVF with its files beside it) → its VMs, each disk with the bytes it lies in."""

from __future__ import annotations

import hashlib
import os
import re
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mtv.model.source import Firmware, PowerState, SourceDisk, SourceNic, SourceVm
from mtv.providers.ova import envelope as ovf
from mtv.providers.ova.manifest import digest_of, read_manifest
from mtv.providers.ova.members import Member, folder_members, tar_members
from mtv.providers.ova.pieces import pieces_of
from mtv.providers.ova.refusal import Refused
from mtv.providers.ova.units import bytes_of
from mtv.providers.ova.xml import MAX_BYTES, parse

PROVIDER = "ova"

_SECTOR = 512
_DESCRIPTOR = b"# Disk DescriptorFile"
_MAX_DESCRIPTOR_BYTES = 1 << 20
_SAFE_ID = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")
_DISK_REFERENCE = re.compile(r"^(?:ovf:)?/disk/(.+)$")


def read_appliance(path: Path, root: Path) -> list[SourceVm]:
    """Return the VMs of an `.ova` or `.ovf` file below `root`. Raises `Refused` with the reason, or `OSError`."""
    in_tar = path.suffix.lower() == ".ova"
    members = tar_members(path) if in_tar else folder_members(path)
    descriptor = _descriptor(members) if in_tar else members.get(path.name)
    if descriptor is None:
        raise Refused("it is not a plain file")
    digests = _manifest(descriptor, members)
    wanted = digests.get(descriptor.name)
    if wanted and digest_of(descriptor, wanted.partition(":")[0]) != wanted:
        raise Refused(
            f"its {descriptor.name} differs from its manifest",
            cure="copy the file again, or export the appliance again",
        )
    document = parse(descriptor.read(MAX_BYTES))
    content = ovf.read_envelope(document)
    relative = path.relative_to(root).as_posix()
    _refuse_doubles(content)
    return [_vm(system, content, members, digests, relative) for system in content.systems]


def _descriptor(members: Mapping[str, Member]) -> Member:
    found = [member for name, member in members.items() if name.lower().endswith(".ovf")]
    if len(found) != 1:
        raise Refused(f"it holds {len(found)} OVF files instead of one")
    return found[0]


def _manifest(descriptor: Member, members: Mapping[str, Member]) -> dict[str, str]:
    manifest = members.get(descriptor.name[:-4] + ".mf")
    return read_manifest(manifest) if manifest is not None else {}


def _refuse_doubles(content: ovf.Envelope) -> None:
    names = [system.name for system in content.systems]
    doubles = sorted({name for name in names if names.count(name) > 1})
    if doubles:
        raise Refused(f"it holds several virtual systems named {', '.join(map(repr, doubles))}")


def _vm(
    system: ovf.System,
    content: ovf.Envelope,
    members: Mapping[str, Member],
    digests: Mapping[str, str],
    relative: str,
) -> SourceVm:
    count, cores = ovf.cpus(system)
    quantity, units, memory_bytes = ovf.memory(system)
    disks = _disks(system, content, members, digests, relative)
    nics = tuple(_nic(index, item) for index, item in enumerate(ovf.nic_items(system)))
    firmware = Firmware.EFI if system.settings.get("firmware", "").lower() == "efi" else Firmware.BIOS
    secure = _flag(system, "bootoptions.efisecurebootenabled")
    tpm = any("tpm" in item.subtype.lower() for item in system.items)
    vm_id = f"{relative}#{system.id or system.name}"
    uuid = _uuid(system)
    document: dict[str, Any] = {
        "id": vm_id,
        "name": system.name,
        "ovaPath": relative,
        "ovaSource": content.writer,
        "osType": system.os,
        "osVersion": system.os_version,
        "uuid": uuid,
        "firmware": firmware.value,
        "secureBoot": secure,
        "tpmEnabled": tpm,
        "cpuCount": count,
        "coresPerSocket": cores,
        "cpuAffinity": [],
        "cpuHotAddEnabled": _flag(system, "cpuhotaddenabled"),
        "cpuHotRemoveEnabled": _flag(system, "cpuhotremoveenabled"),
        "memoryHotAddEnabled": _flag(system, "memoryhotaddenabled"),
        "memoryMB": memory_bytes >> 20,
        "memoryUnits": units,
        "memoryQuantity": quantity,
        "devices": [{"kind": _device_kind(item)} for item in system.items],
        "nics": [{"name": f"nic{n.index}", "mac": n.mac, "network": n.network, "model": n.model} for n in nics],
        "networks": [{"name": name} for name in content.networks],
        "disks": [_declared(disk, content) for disk in disks],
    }
    return SourceVm(
        provider=PROVIDER,
        id=vm_id,
        name=system.name or Path(relative).stem,
        uuid=uuid,
        power=PowerState.OFF,
        cpu_count=count,
        cores_per_socket=cores,
        memory_bytes=memory_bytes,
        firmware=firmware,
        secure_boot=secure,
        tpm=tpm,
        guest_os=system.os,
        disks=disks,
        nics=nics,
        document=document,
    )


def _flag(system: ovf.System, key: str) -> bool:
    return system.settings.get(key, "").lower() == "true"


def _uuid(system: ovf.System) -> str:
    return system.settings.get("uuid", "") or system.settings.get("uuid.bios", "")


def _device_kind(item: ovf.Hardware) -> str:
    return ovf.kind_name(item) or {3: "cpu", 4: "memory", 10: "nic", 17: "disk"}.get(item.kind, f"type-{item.kind}")


def _nic(index: int, item: ovf.Hardware) -> SourceNic:
    mac = item.address.strip().lower().replace("-", ":")
    if re.fullmatch(r"[0-9a-f]{12}", mac):
        mac = ":".join(mac[at : at + 2] for at in range(0, 12, 2))
    if mac and not re.fullmatch(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", mac):
        mac = ""  # an OVF template may hold a placeholder; the target then gives the card a new address
    model = (item.subtype.split() or [""])[0].lower()
    return SourceNic(index=index, network=item.connection, mac=mac, model=model, connected=item.connected)


def _disks(
    system: ovf.System,
    content: ovf.Envelope,
    members: Mapping[str, Member],
    digests: Mapping[str, str],
    relative: str,
) -> tuple[SourceDisk, ...]:
    found: list[SourceDisk] = []
    for index, (item, bus) in enumerate(ovf.disk_items(system)):
        match = _DISK_REFERENCE.match(item.host_resource)
        if match is None or match[1] not in content.disks:
            raise Refused(
                f"a disk of {system.name!r} refers to {item.host_resource!r}, which is not in its Disk section"
            )
        disk = content.disks[match[1]]
        safe = disk.id.lower()
        taken = {other.id for other in found}
        disk_id = safe if _SAFE_ID.fullmatch(safe) and safe not in taken else f"disk-{index}"
        found.append(_disk(index, disk_id, disk, bus or "scsi", content, members, digests, relative))
    return tuple(found)


def _disk(
    index: int,
    disk_id: str,
    disk: ovf.VirtualDisk,
    bus: str,
    content: ovf.Envelope,
    members: Mapping[str, Member],
    digests: Mapping[str, str],
    relative: str,
) -> SourceDisk:
    what = f"the capacity of disk {disk.id!r}"
    if disk.parent:
        raise Refused(f"its disk {disk.id!r} is a delta of another", cure="export the appliance without snapshots")
    declared = bytes_of(disk.capacity, disk.units, what=what)
    reference = content.files.get(disk.file)
    if reference is None:
        raise Refused(f"its disk {disk.id!r} has no file, so there are no bytes to move")
    if reference.compression not in ("", "gzip"):
        raise Refused(f"its file {reference.href!r} is compressed by {reference.compression!r}, only gzip is read")
    first, *rest = pieces = pieces_of(reference, members)
    beside = _extents(first, members)
    stated = [digests.get(piece.name, "") for piece in pieces]
    capacity = declared if reference.compression else (vmdk_capacity(first) or declared)
    return SourceDisk(
        id=disk_id,
        index=index,
        size_bytes=capacity,
        bus=bus,
        identity=f"{relative}/{reference.href}",
        generation=_generation((*pieces, *beside), (*stated, *(digests.get(extent.name, "") for extent in beside))),
        storage=disk.id,
        locator={
            **_range(first, stated[0]),
            "format": _format(disk, reference),
            "compression": reference.compression,
            "changed_ns": first.changed_ns,
            "chunks": [
                {**_range(piece, digest), "changed_ns": piece.changed_ns}
                for piece, digest in zip(rest, stated[1:], strict=True)
            ],
            "extents": [{**_range(extent, ""), "changed_ns": extent.changed_ns} for extent in beside],
        },
        allocated_bytes=disk.populated_bytes or None,
    )


def _extents(first: Member, members: Mapping[str, Member]) -> tuple[Member, ...]:
    """Return the files that a VMDK descriptor names: it is the appliance's disk file, but they hold the bytes."""
    if first.length > _MAX_DESCRIPTOR_BYTES or first.head(len(_DESCRIPTOR)) != _DESCRIPTOR:
        return ()
    text = first.read(_MAX_DESCRIPTOR_BYTES)
    return tuple(member for name, member in sorted(members.items()) if b'"%s"' % os.fsencode(name) in text)


def _range(piece: Member, digest: str) -> dict[str, Any]:
    return {"path": str(piece.path), "offset": piece.offset, "length": piece.length, "checksum": digest}


def _generation(pieces: Sequence[Member], stated: Sequence[str]) -> str:
    """Return the file's size and time with its digest in the manifest; of several files a digest over those of each.

    The manifest alone does not tell versions apart: it stays as it is when a damaged file is fetched again.
    """
    marks = [
        f"{digest}@{piece.length}:{piece.changed_ns}" if digest else f"{piece.length}:{piece.changed_ns}"
        for piece, digest in zip(pieces, stated, strict=True)
    ]
    return marks[0] if len(marks) == 1 else f"pieces:{hashlib.sha256(' '.join(marks).encode()).hexdigest()}"


def _declared(disk: SourceDisk, content: ovf.Envelope) -> dict[str, Any]:
    said = content.disks[disk.storage]
    return {
        "diskId": said.id,
        "fileRef": said.file,
        "filePath": content.files[said.file].href,
        "capacity": bytes_of(said.capacity, said.units, what=f"the capacity of disk {said.id!r}"),
        "capacityAllocationUnits": said.units or "byte",
        "format": said.format,
        "populatedSize": said.populated_bytes,
        "bus": disk.bus,
    }


def _format(disk: ovf.VirtualDisk, reference: ovf.FileReference) -> str:
    name = reference.href.lower().removesuffix(".gz")
    return "raw" if name.endswith((".img", ".raw")) or disk.format.lower().endswith("raw") else "vmdk"


def vmdk_capacity(member: Member) -> int:
    """Return the capacity in bytes that a sparse VMDK's own header states; 0 when the file is no such VMDK.

    The mover writes what the file holds, so where OVF and disk differ the disk is right.
    """
    head = member.head(20)
    if len(head) < 20 or head[:4] != b"KDMV":
        return 0
    (sectors,) = struct.unpack_from("<Q", head, 12)
    return int(sectors) * _SECTOR if 0 < sectors < 1 << 53 else 0


def appliance_files(root: Path) -> list[Path]:
    """Return the `.ova` files down to depth 2 and `.ovf` files down to depth 3 below `root`, sorted.

    Depth 1 is the folder itself. Symbolic links are not followed: an appliance share may be written by others.
    """
    found: list[Path] = []
    level = [root]
    for depth in (1, 2, 3):
        below: list[Path] = []
        for folder in level:
            with os.scandir(folder) as entries:
                for entry in entries:
                    suffix = Path(entry.name).suffix.lower()
                    if entry.is_dir(follow_symlinks=False):
                        below.append(Path(entry.path))
                    elif entry.is_file(follow_symlinks=False) and (
                        suffix == ".ovf" or (suffix == ".ova" and depth <= 2)
                    ):
                        found.append(Path(entry.path))
        level = below
    return sorted(found)
