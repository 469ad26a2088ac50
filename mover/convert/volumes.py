"""What lies on a disk, by its own first bytes: partitions and the kind of each volume. Needs no appliance.

Works on any `read(offset, length)`, which may return fewer bytes behind the disk's end. A disk belongs to its guest:
nothing in it is trusted, every chain is bounded, and what does not parse is simply not a partition.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Callable, Iterable, Iterator

import msgspec

Read = Callable[[int, int], bytes]

OPENED = "luks-{uuid}"
"""Name of an opened LUKS volume in `/dev/mapper`, as virt-v2v gives it, so that both looks into a guest agree."""

_MAX_PARTITIONS = 128
_EXTENDED = {0x05, 0x0F, 0x85}
_GPT_PROTECTIVE = 0xEE
_LDM_MBR = 0x42
_LDM_GPT = {"5808c8aa-7e8f-42e0-85d2-e1e90434cfb3", "af9b60a0-1431-4f62-bc68-3311714a69ad"}
_UNUSED = "00000000-0000-0000-0000-000000000000"


class Volume(msgspec.Struct, frozen=True, kw_only=True):
    """A partition, or a whole disk without partitions (`number` 0). `device` is its name in the appliance.

    `kind` is ntfs, bitlocker, luks, lvm, ext, xfs, btrfs, windows-dynamic or empty (unknown). `uuid` is that of LUKS,
    `disk_signature` the MBR's (8 hex digits), `partition_guid` that of a GPT entry.
    """

    device: str
    disk: int
    number: int
    offset: int
    size: int
    kind: str = ""
    uuid: str = ""
    disk_signature: str = ""
    partition_guid: str = ""


def volumes_of(read: Read, size: int, *, disk: int, device: str) -> tuple[Volume, ...]:
    """The volumes of one disk of `size` bytes, `device` being /dev/sda and the like."""
    found: list[Volume] = []
    for number, start, length, about in _partitions(read, size):
        kind, luks_uuid = ("windows-dynamic", "") if about.pop("ldm", "") else _kind(read, start)
        found.append(
            Volume(
                device=f"{device}{number}",
                disk=disk,
                number=number,
                offset=start,
                size=length,
                kind=kind,
                uuid=luks_uuid,
                **about,
            )
        )
    if not found:
        kind, luks_uuid = _kind(read, 0)
        found.append(Volume(device=device, disk=disk, number=0, offset=0, size=size, kind=kind, uuid=luks_uuid))
    return tuple(found)


def root_device(wanted: str, found: Iterable[Volume]) -> str:
    """The name of a root once the guest's disks are open: what a LUKS volume holds has a name of its own."""
    luks = {volume.device: volume.uuid for volume in found if volume.kind == "luks"}
    return f"/dev/mapper/{OPENED.format(uuid=luks[wanted])}" if wanted in luks else wanted


def _partitions(read: Read, size: int) -> Iterator[tuple[int, int, int, dict[str, str]]]:
    sector = read(0, 512)
    if len(sector) < 512 or sector[510:512] != b"\x55\xaa":
        return
    entries = [_mbr_entry(sector, slot) for slot in range(4)]
    if any(kind == _GPT_PROTECTIVE for kind, _, _ in entries):
        yield from _gpt(read, size)
        return
    if _kind_of_bytes(sector)[0] in ("ntfs", "bitlocker"):
        return  # a boot sector ends in 55 AA too; what stands at the partition table's place is code
    signature = f"{struct.unpack_from('<I', sector, 440)[0]:08x}"
    for number, (kind, first, count) in enumerate(entries, start=1):
        if kind in _EXTENDED:
            yield from _logical(read, first * 512, size, signature)
        elif kind and _fits(first * 512, count * 512, size):
            about = {"disk_signature": signature} | ({"ldm": "yes"} if kind == _LDM_MBR else {})
            yield number, first * 512, count * 512, about


def _logical(read: Read, base: int, size: int, signature: str) -> Iterator[tuple[int, int, int, dict[str, str]]]:
    """Partitions in the extended one: a chain of records, each naming its partition and the next record."""
    here = base
    for number in range(5, _MAX_PARTITIONS):
        record = read(here, 512)
        if len(record) < 512 or record[510:512] != b"\x55\xaa":
            return
        kind, first, count = _mbr_entry(record, 0)
        if kind and _fits(here + first * 512, count * 512, size):
            yield number, here + first * 512, count * 512, {"disk_signature": signature}
        following, offset, _ = _mbr_entry(record, 1)
        if following not in _EXTENDED or not offset:
            return
        here = base + offset * 512


def _gpt(read: Read, size: int) -> Iterator[tuple[int, int, int, dict[str, str]]]:
    for sector in (512, 4096):
        header = read(sector, 92)
        if len(header) == 92 and header[:8] == b"EFI PART":
            break
    else:
        return
    table, count, width = struct.unpack_from("<QII", header, 72)
    if not 128 <= width <= 4096:
        return
    entries = read(table * sector, min(count, _MAX_PARTITIONS) * width)
    for number in range(1, len(entries) // width + 1):
        entry = entries[(number - 1) * width : number * width]
        kind = str(uuid.UUID(bytes_le=entry[:16]))
        first, last = struct.unpack_from("<QQ", entry, 32)
        if kind == _UNUSED or not _fits(first * sector, (last - first + 1) * sector, size):
            continue
        about = {"partition_guid": str(uuid.UUID(bytes_le=entry[16:32]))}
        yield number, first * sector, (last - first + 1) * sector, about | ({"ldm": "yes"} if kind in _LDM_GPT else {})


def _mbr_entry(sector: bytes, slot: int) -> tuple[int, int, int]:
    at = 446 + 16 * slot
    first, count = struct.unpack_from("<II", sector, at + 8)
    return sector[at + 4], first, count


def _fits(offset: int, length: int, size: int) -> bool:
    return 0 < offset < size and length > 0


def _kind(read: Read, offset: int) -> tuple[str, str]:
    kind, luks_uuid = _kind_of_bytes(read(offset, 4096))
    if not kind and read(offset + 0x10040, 8) == b"_BHRfS_M":
        kind = "btrfs"
    return kind, luks_uuid


def _kind_of_bytes(start: bytes) -> tuple[str, str]:
    """Kind, and the UUID where it is a LUKS volume."""
    if start[3:11] == b"-FVE-FS-":
        return "bitlocker", ""
    if start[3:11] == b"NTFS    ":
        return "ntfs", ""
    if start[:6] == b"LUKS\xba\xbe":
        return "luks", start[168:208].split(b"\0")[0].decode("ascii", errors="replace")
    if start[:4] == b"XFSB":
        return "xfs", ""
    if start[1080:1082] == b"\x53\xef":
        return "ext", ""
    if any(start[at : at + 8] == b"LABELONE" for at in (0, 512, 1024, 1536)):
        return "lvm", ""
    return "", ""
