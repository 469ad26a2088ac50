"""The files of an appliance, by offset and length: members of a tar, or files beside an OVF. Never unpacked."""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO, cast

import msgspec

from mtv.providers.ova.refusal import Refused

MAX_MEMBERS = 1000
_MAX_HEADER_READ = 1 << 20


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """`length` bytes at `offset` of `path`; `changed_ns` is the modification time of that file."""

    name: str
    path: Path
    offset: int
    length: int
    changed_ns: int

    def read(self, limit: int) -> bytes:
        """Return the whole content. Raises `Refused` above `limit` bytes."""
        if self.length > limit:
            raise Refused(f"{self.name} is larger than {limit} bytes")
        return self.head(self.length)

    def head(self, length: int) -> bytes:
        """Return the first `length` bytes, or all when there are fewer."""
        with self.path.open("rb") as file:
            file.seek(self.offset)
            return file.read(min(length, self.length))


def tar_members(path: Path) -> dict[str, Member]:
    """Return the members of an OVA by name. Raises `Refused` for anything that is not a plain tar of plain files."""
    info = path.stat()
    members: dict[str, Member] = {}
    try:
        with path.open("rb") as raw, tarfile.open(fileobj=cast(BinaryIO, _CappedReads(raw)), mode="r:") as tar:
            for entry in tar:
                if len(members) >= MAX_MEMBERS:
                    raise Refused(f"it has more than {MAX_MEMBERS} members")
                if entry.isdir():
                    continue
                check_name(entry.name)
                if not entry.isreg() or entry.issparse():
                    raise Refused(f"its member {entry.name!r} is a link, a device or a sparse file")
                if entry.name in members:
                    raise Refused(f"it has two members named {entry.name!r}")
                if entry.size < 0 or entry.offset_data + entry.size > info.st_size:
                    raise Refused(f"it ends within its member {entry.name!r}", cure="copy the file again")
                members[entry.name] = Member(
                    name=entry.name,
                    path=path,
                    offset=entry.offset_data,
                    length=entry.size,
                    changed_ns=info.st_mtime_ns,
                )
    except tarfile.TarError as error:
        raise Refused(f"it is not a tar file as OVA wants it: {error}", cure="export the appliance again") from error
    return members


def folder_members(ovf: Path) -> Mapping[str, Member]:
    """Return the plain files beside an OVF (symbolic links are left out), by name."""
    members: dict[str, Member] = {}
    with os.scandir(ovf.parent) as entries:
        for entry in entries:
            info = entry.stat(follow_symlinks=False)
            if stat.S_ISREG(info.st_mode):
                members[entry.name] = Member(
                    name=entry.name,
                    path=ovf.parent / entry.name,
                    offset=0,
                    length=info.st_size,
                    changed_ns=info.st_mtime_ns,
                )
    return members


def check_name(name: str) -> None:
    """Refuse a file name that is anything but a relative path going down."""
    parts = name.replace("\\", "/").split("/")
    if not name or name.startswith("/") or ".." in parts or any(ord(c) < 32 for c in name) or ":" in parts[0]:
        raise Refused(f"it names the file {name!r}, which leads out of the appliance")


class _CappedReads:
    """A file whose single reads are capped: tarfile reads a header extension of any claimed size in one go."""

    def __init__(self, raw: BinaryIO) -> None:
        self._raw = raw

    def read(self, size: int = -1) -> bytes:
        if size < 0 or size > _MAX_HEADER_READ:
            raise Refused("it has a header of absurd size")
        return self._raw.read(size)

    def seek(self, position: int, whence: int = 0) -> int:
        return self._raw.seek(position, whence)

    def tell(self) -> int:
        return self._raw.tell()
