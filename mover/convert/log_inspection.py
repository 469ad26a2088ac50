"""The inspection that virt-v2v makes anyway, read from its debug log: no application list, but no appliance either."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from mtv.model.conversion import GuestFilesystem, Inspection

_MOUNTED = re.compile(r"mountpoint statvfs (?P<device>/dev/\S+) (?P<point>/.*) \((?P<type>\w*)\):\s*$")
_NUMBERS = re.compile(r"bsize=(?P<bsize>\d+) blocks=(?P<blocks>\d+) bfree=(?P<bfree>\d+) bavail=\d+")
_LOADER = re.compile(r"detected bootloader (?P<name>\S+) at ")


def inspection_of(facts: Mapping[str, str], log: Path) -> Inspection:
    """What virt-v2v's facts (`i_distro`, …) and its log say of a guest; `complete` stays false."""
    filesystems: list[GuestFilesystem] = []
    loader = ""
    mounted: re.Match[str] | None = None
    with log.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if found := _LOADER.search(line):
                loader = found["name"]
            elif found := _MOUNTED.search(line):
                mounted = found
            elif mounted and (numbers := _NUMBERS.search(line)):
                filesystems.append(
                    GuestFilesystem(
                        device=mounted["device"],
                        mountpoint=mounted["point"],
                        type=mounted["type"],
                        size_bytes=int(numbers["bsize"]) * int(numbers["blocks"]),
                        free_bytes=int(numbers["bsize"]) * int(numbers["bfree"]),
                    )
                )
                mounted = None
    return Inspection(
        root=facts.get("i_root", ""),
        type=facts.get("i_type", ""),
        distro=facts.get("i_distro", ""),
        version=version_of(facts),
        product=facts.get("i_product_name", ""),
        variant=facts.get("i_product_variant", ""),
        os_id=facts.get("i_osinfo", ""),
        arch=facts.get("i_arch", ""),
        firmware={"bios": "bios", "uefi": "efi"}.get(facts.get("i_firmware", "").lower(), ""),
        boot_loader=loader,
        filesystems=tuple(sorted(filesystems, key=lambda filesystem: filesystem.mountpoint)),
    )


def version_of(facts: Mapping[str, str]) -> str:
    """Major and minor version, e.g. 12.4."""
    return ".".join(v for v in (facts.get("i_major_version"), facts.get("i_minor_version")) if v)
