"""Does the user's virtio-win (ISO or unpacked folder) have drivers for this Windows? Asked before anything is copied.

virt-v2v chooses drivers by the folder names on their path (viostor/w10/amd64/viostor.inf); so do we. The ISO is read
directly: nothing is mounted, no appliance is started.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import msgspec

from mover.convert import failures
from mtv.model.conversion import Inspection, Notice
from mtv.model.errors import PermanentError

ENVIRONMENT = "VIRTIO_WIN"
TOOLS_ENVIRONMENT = "VIRT_TOOLS_DATA_DIR"
DEFAULTS = (Path("/usr/share/virtio-win/virtio-win.iso"), Path("/usr/share/virtio-win"))
_TOOLS = Path("/usr/share/virt-tools")
_SECTOR = 2048
_MAX_ENTRIES = 100_000
_MAX_DEPTH = 12

_FOLDERS: Mapping[str, frozenset[str]] = {
    "winxp": frozenset({"xp", "wxp"}),
    "win2k3": frozenset({"2k3", "w2k3", "2003", "w2003"}),
    "winvista": frozenset({"vista", "wlh", "w2k8", "2k8"}),
    "win2k8": frozenset({"2k8", "w2k8", "wlh", "vista"}),
    "win7": frozenset({"w7", "win7"}),
    "win2k8r2": frozenset({"2k8r2", "w2k8r2"}),
    "win8": frozenset({"w8", "win8"}),
    "win2k12": frozenset({"2k12", "w2k12"}),
    "win8.1": frozenset({"w8.1", "win8.1"}),
    "win2k12r2": frozenset({"2k12r2", "w2k12r2"}),
    "win10": frozenset({"w10", "win10"}),
    "win11": frozenset({"w11", "win11", "w10"}),
    "win2k16": frozenset({"2k16", "w2k16"}),
    "win2k19": frozenset({"2k19", "w2k19"}),
    "win2k22": frozenset({"2k22", "w2k22"}),
    "win2k25": frozenset({"2k25", "w2k25"}),
}
"""Windows by osinfo's id → folders of virtio-win that serve it."""
_ARCHES = {"x86_64": frozenset({"amd64"}), "i386": frozenset({"x86", "i386"})}


class Drivers(msgspec.Struct, frozen=True, kw_only=True):
    """What was found for one Windows: block and network driver, and the guest agent's installer."""

    block: bool
    network: bool
    agent: bool


def source(wanted: str, environ: Mapping[str, str]) -> Path | None:
    """The virtio-win to use: the one wanted, else `VIRTIO_WIN`, else where packages put it; None if there is none.

    Raises `PermanentError` when one is named that does not exist.
    """
    named = wanted or environ.get(ENVIRONMENT, "")
    if named:
        if not Path(named).exists():
            raise failures.refusal("virtio-win-missing", f"virtio-win is to be at {named}, but nothing is there")
        return Path(named)
    return next((path for path in DEFAULTS if path.exists()), None)


def check(inspection: Inspection, *, wanted: str, environ: Mapping[str, str]) -> tuple[Notice, ...]:
    """Return what is worth a warning for this Windows; raise `PermanentError` if it cannot be converted to virtio."""
    tools = Path(environ.get(TOOLS_ENVIRONMENT, "") or _TOOLS)
    if not any((tools / name).exists() for name in ("rhsrvany.exe", "pvvxsvc.exe")):
        raise failures.refusal("windows-tools-missing")
    drivers_at = source(wanted, environ)
    if drivers_at is None:
        raise failures.refusal("virtio-win-missing", "a Windows guest needs virtio-win, and none is given")
    found = drivers_for(paths_in(drivers_at), os_id=inspection.os_id, arch=inspection.arch)
    if not found.block or not found.network:
        lacking = " and ".join(name for name, there in (("disk", found.block), ("network", found.network)) if not there)
        raise PermanentError(
            f"{drivers_at} has no {lacking} driver for {inspection.os_id or inspection.product} {inspection.arch}",
            cure="give a virtio-win that supports this Windows (versions before 8 need virtio-win 0.1.173 or older)",
            code="virtio-win-no-match",
        )
    if not found.agent:
        return (
            Notice(
                code="guest-agent-missing",
                message=f"{drivers_at} holds no guest agent for {inspection.arch}",
                cure="install qemu-guest-agent in the VM after the migration",
            ),
        )
    return ()


def drivers_for(paths: frozenset[str], *, os_id: str, arch: str) -> Drivers:
    """Which drivers for a Windows are among `paths` (lower case, with /)."""
    folders = _FOLDERS.get(os_id, frozenset())
    arches = _ARCHES.get(arch, frozenset())

    def has(name: str) -> bool:
        for path in paths:
            parts = PurePosixPath(path).parts
            if parts[-1] == name and folders & set(parts) and arches & set(parts):
                return True
        return False

    return Drivers(
        block=has("viostor.inf") or has("vioscsi.inf"),
        network=has("netkvm.inf"),
        agent=any(path.endswith(f"qemu-ga-{arch}.msi") for path in paths),
    )


def paths_in(place: Path) -> frozenset[str]:
    """All files of a folder or ISO image, lower case. Raises `PermanentError` (virtio-win-missing) if unreadable."""
    try:
        if place.is_dir():
            files = (Path(folder, name) for folder, _, names in os.walk(place) for name in names)
            return frozenset(path.relative_to(place).as_posix().lower() for path in files)
        with place.open("rb") as image:
            return frozenset(name.lower() for name in _iso_files(image))
    except (OSError, struct.error, UnicodeDecodeError, IndexError) as error:
        raise failures.refusal("virtio-win-missing", f"{place} cannot be read as virtio-win: {error}") from error


def _iso_files(image: BinaryIO) -> Iterator[str]:
    """Names in an ISO 9660 image, by its Joliet tree if it has one (the plain one shortens names)."""
    roots: dict[int, bytes] = {}
    for sector in range(16, 32):
        descriptor = _at(image, sector * _SECTOR, _SECTOR)
        if descriptor[1:6] != b"CD001":
            break
        joliet = descriptor[0] == 2 and descriptor[88:91] in (b"%/@", b"%/C", b"%/E")
        if descriptor[0] == 1 or joliet:
            roots[descriptor[0]] = descriptor[156:190]
    if not roots:
        raise failures.refusal("virtio-win-missing", "virtio-win is no ISO 9660 image")
    kind = max(roots)
    encoding = "utf-16-be" if kind == 2 else "ascii"
    entries = 0
    stack = [(roots[kind], "", 0)]
    while stack:
        record, folder, depth = stack.pop()
        start, length = struct.unpack_from("<I", record, 2)[0], struct.unpack_from("<I", record, 10)[0]
        content = _at(image, start * _SECTOR, min(length, 16 << 20))
        at = 0
        while at < len(content):
            size = content[at]
            if not size:  # records do not cross sectors
                at = (at // _SECTOR + 1) * _SECTOR
                continue
            entry = content[at : at + size]
            at += size
            entries += 1
            raw = entry[33 : 33 + entry[32]]
            if entries > _MAX_ENTRIES:
                return
            if raw in (b"\0", b"\1"):  # the folder itself and the one above it
                continue
            name = f"{folder}{raw.decode(encoding).split(';')[0]}"
            if entry[25] & 2:
                if depth < _MAX_DEPTH:
                    stack.append((entry, f"{name}/", depth + 1))
            else:
                yield name


def _at(image: BinaryIO, offset: int, length: int) -> bytes:
    image.seek(offset)
    return image.read(length)
