"""Writes an OVA as VMware's export tool does: descriptor, SHA-256 manifest, then streamOptimized disks."""

from __future__ import annotations

import hashlib
import io
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

from lab.guests.tools import run
from lab.ova.descriptor import OvfDisk, OvfMachine, descriptor


def write_ova(ova: Path, machine: OvfMachine, raw_disks: Sequence[Path]) -> None:
    """Pack `raw_disks` (in boot order) into `ova`; members are NAME.ovf, NAME.mf and NAME-disk1.vmdk, …"""
    with tempfile.TemporaryDirectory(dir=ova.parent, prefix=".ova-") as scratch:
        files: list[Path] = []
        disks: list[OvfDisk] = []
        for number, raw in enumerate(raw_disks, start=1):
            file = Path(scratch) / f"{machine.name}-disk{number}.vmdk"
            to_stream_optimized(raw, file)
            files.append(file)
            disks.append(OvfDisk(file.name, file.stat().st_size, raw.stat().st_size))
        ovf = descriptor(machine, tuple(disks))
        sums = [(f"{machine.name}.ovf", hashlib.sha256(ovf).hexdigest())]
        for file in files:
            with file.open("rb") as content:
                sums.append((file.name, hashlib.file_digest(content, "sha256").hexdigest()))
        manifest = "".join(f"SHA256({name})= {digest}\n" for name, digest in sums).encode()
        with tarfile.open(ova, "w", format=tarfile.USTAR_FORMAT) as archive:
            add_member(archive, f"{machine.name}.ovf", ovf)
            add_member(archive, f"{machine.name}.mf", manifest)
            for file in files:
                archive.add(file, file.name)


def to_stream_optimized(raw: Path, vmdk: Path) -> None:
    """Write the raw disk as a streamOptimized VMDK: compressed grains, meant to be read from front to back."""
    argv = ["qemu-img", "convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=streamOptimized", str(raw), str(vmdk)]
    run(argv, what=f"convert {raw.name}")


def add_member(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    """Add a small file to an open archive."""
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), 0o644
    archive.addfile(member, io.BytesIO(content))
