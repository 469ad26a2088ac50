"""Finds a disk in an OVA by its name, with the checksum of the manifest and all pieces of a file that was split."""

from __future__ import annotations

import re
import tarfile
import zlib
from pathlib import Path
from typing import NamedTuple

from mover.failure import storage_error
from mover.sources.vmdk_header import SECTOR_BYTES, is_sparse_vmdk, parse_header
from mover.sources.window import Window
from mtv.model.errors import PermanentError
from mtv.model.transfer import FileRange, OvaMember

_MANIFEST_LINE = re.compile(r"(SHA1|SHA256|SHA512)[ \t]*\((.+)\)[ \t]*=[ \t]*([0-9a-fA-F]+)[ \t]*")
_PIECE = re.compile(r"(.+)\.(\d{9})")
_MAX_MANIFEST_BYTES = 1 << 20
_MAX_MEMBERS = 4096
_TOLD_NAMES = 20
_NO_DISKS = (".ovf", ".mf", ".cert", ".xml", ".txt")


class FoundDisk(NamedTuple):
    """A member as a source; `size_bytes` is the disk's, 0 if the member says it when it is opened."""

    member: OvaMember
    size_bytes: int


def find_disk(path: Path, name: str) -> FoundDisk:
    """The disk file `name` of the OVA. Raises `PermanentError`, which lists the names that are there."""
    members = _members(path)
    pieces = [members[name]] if name in members else _pieces(path, name, members)
    if not pieces:
        disks = sorted({_whole_name(other) for other in members if not other.lower().endswith(_NO_DISKS)})
        raise PermanentError(
            f"{path} has no member {name!r}" if name else f"which disk of {path} is meant is not said",
            cure=f"write ova:{path}!NAME with one of: {', '.join(disks[:_TOLD_NAMES]) or 'no disks are in it'}",
            code="source-missing",
        )
    first, *more = pieces
    packed = name.lower().endswith(".gz")
    plain = name.lower().removesuffix(".gz")
    member = OvaMember(
        path=first.path,
        offset=first.offset,
        length=first.length,
        format="raw" if plain.endswith((".img", ".raw")) else "vmdk",
        compression="gzip" if packed else "",
        checksum=first.checksum,
        chunks=tuple(more),
    )
    return FoundDisk(member, _size_inside(first, name) if packed else 0)


def _members(path: Path) -> dict[str, FileRange]:
    found: dict[str, FileRange] = {}
    try:
        with tarfile.open(path, "r:") as tar:
            for entry in tar:
                if entry.isreg() and not entry.issparse():
                    if entry.name in found or len(found) >= _MAX_MEMBERS:
                        raise PermanentError(
                            f"{path} holds {entry.name!r} twice, or too many files",
                            cure="export it again",
                            code="source-corrupt",
                        )
                    found[entry.name] = FileRange(path=str(path), offset=entry.offset_data, length=entry.size)
    except tarfile.TarError as error:
        raise PermanentError(
            f"{path} is not an OVA (a tar): {error}", cure="fetch it again", code="source-corrupt"
        ) from (error)
    except OSError as error:
        raise storage_error(error, where="source", what=f"open {path}") from error
    checksums = _checksums(path, found)
    return {
        name: FileRange(path=where.path, offset=where.offset, length=where.length, checksum=checksums.get(name, ""))
        for name, where in found.items()
    }


def _checksums(path: Path, members: dict[str, FileRange]) -> dict[str, str]:
    manifests = [where for name, where in members.items() if name.lower().endswith(".mf")]
    if not manifests:
        return {}
    if len(manifests) > 1 or manifests[0].length > _MAX_MANIFEST_BYTES:
        raise PermanentError(f"{path} has no one manifest of a bearable size", code="source-corrupt")
    window = Window.of(manifests[0])
    try:
        text = window.read(window.length, 0).decode("utf-8", errors="replace")
    finally:
        window.close()
    found: dict[str, str] = {}
    for line in filter(str.strip, text.splitlines()):
        match = _MANIFEST_LINE.fullmatch(line.strip())
        if not match:
            raise PermanentError(
                f"a line of the manifest of {path} is no checksum", cure="export it again", code="source-corrupt"
            )
        found[match[2]] = f"{match[1].lower()}:{match[3].lower()}"
    return found


def _pieces(path: Path, name: str, members: dict[str, FileRange]) -> list[FileRange]:
    numbered = sorted(
        (int(match[2]), where)
        for other, where in members.items()
        if (match := _PIECE.fullmatch(other)) and match[1] == name
    )
    if [number for number, _ in numbered] != list(range(len(numbered))):
        raise PermanentError(
            f"{path}: pieces of {name!r} are missing", cure="fetch the file again", code="source-truncated"
        )
    return [where for _, where in numbered]


def _whole_name(name: str) -> str:
    match = _PIECE.fullmatch(name)
    return match[1] if match else name


def _size_inside(first: FileRange, name: str) -> int:
    """The size of the disk in a gzip'ed VMDK, from the header inside."""
    window = Window.of(first)
    try:
        packed = window.read(min(window.length, 64 << 10), 0)
        head = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16).decompress(packed, SECTOR_BYTES)
    except zlib.error as error:
        raise PermanentError(
            f"{first.path}: {name} is not gzip ({error})", cure="fetch the file again", code="source-corrupt"
        ) from error
    finally:
        window.close()
    if not is_sparse_vmdk(head):
        raise PermanentError(
            f"{first.path}: the size of the disk in {name} is not known beforehand",
            cure="unpack that member and copy it with file:PATH, or use `transfer` with the OVF's size in the spec",
            code="source-size",
        )
    return parse_header(head, what=name).capacity_bytes
