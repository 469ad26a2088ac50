"""A VMDK that is a small text naming the files that hold the disk: flat, split flat, split sparse.

    # Disk DescriptorFile
    parentCID=ffffffff
    RW 4192256 SPARSE "disk-s001.vmdk"
    RW 8192 FLAT "disk-f002.vmdk" 0
    RW 100 ZERO

Only plain files beside the descriptor are opened: an image that somebody else made must not reach for other files.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from pathlib import Path

from mover.failure import storage_error
from mover.sources.base import RandomSource
from mover.sources.joined import JoinedSource, NothingSource
from mover.sources.raw import RawSource
from mover.sources.vmdk import SparseVmdkSource
from mover.sources.vmdk_header import SECTOR_BYTES, broken, refuse_parent
from mover.sources.window import Window
from mtv.model.errors import PermanentError

_START = b"# Disk DescriptorFile"
_MAX_DESCRIPTOR_BYTES = 1 << 20
_MAX_EXTENTS = 4096
_MAX_SECTORS = 1 << 37
_EXTENT = re.compile(r'(?:RW|RDONLY|NOACCESS)[ \t]+(\d{1,18})[ \t]+([A-Z]+)(?:[ \t]+"([^"]*)")?(?:[ \t]+(\d{1,18}))?')
_EXTENT_WORDS = ("RW", "RDONLY", "NOACCESS")
_FLAT = ("FLAT", "VMFS")


def is_descriptor(start: bytes) -> bool:
    """Whether bytes begin a descriptor."""
    return start.startswith(_START)


def open_descriptor(window: Window) -> RandomSource:
    """The disk that the descriptor in `window` (a whole file) describes. The window is closed when all is well.

    The descriptor stays as it is when the disk's bytes change, so the generation is made of its extents' own.
    """
    what = str(window.path)
    if window.length > _MAX_DESCRIPTOR_BYTES:
        raise broken(what, f"a descriptor of {window.length} bytes")
    raw = window.read(window.length, 0)
    refuse_parent(raw, what=what)
    text = raw.rstrip(b"\0").decode("utf-8", errors="surrogateescape")
    lines = [line.strip() for line in text.splitlines()]
    extents = [line for line in lines if line.partition(" ")[0].partition("\t")[0] in _EXTENT_WORDS]
    matches = [match for line in extents if (match := _EXTENT.match(line))]
    if not matches or len(matches) != len(extents) or len(matches) > _MAX_EXTENTS:
        raise broken(what, "its list of extents is not understood")
    parts: list[RandomSource] = []
    versions = hashlib.sha256()
    try:
        for sectors, kind, name, start in (match.groups() for match in matches):
            part = _part(window.path, int(sectors), kind, name, int(start or 0))
            parts.append(part)
            if isinstance(part, RawSource | SparseVmdkSource):
                versions.update(f"{part.window.path.name}\0{part.window.generation}\0".encode(errors="surrogateescape"))
    except BaseException:
        for part in parts:
            part.close()
        raise
    window.close()
    return JoinedSource(parts, generation=f"extents:{versions.hexdigest()}")


def _part(descriptor: Path, sectors: int, kind: str, name: str | None, start: int) -> RandomSource:
    if not 0 < sectors <= _MAX_SECTORS or start > _MAX_SECTORS:
        raise broken(str(descriptor), f"an extent of {sectors} sectors at {start}")
    size = sectors * SECTOR_BYTES
    if kind == "ZERO":
        return NothingSource(size)
    if kind not in (*_FLAT, "SPARSE"):
        raise PermanentError(
            f"{descriptor}: extents of kind {kind} cannot be read",
            cure="export the disk as streamOptimized, or convert it to raw with qemu-img",
            code="source-format",
        )
    path = _beside(descriptor, name or "")
    if kind in _FLAT:
        return RawSource(Window(path, start * SECTOR_BYTES, size))
    window = Window(path, 0, path.stat().st_size)
    try:
        part = SparseVmdkSource(window)
    except BaseException:
        window.close()
        raise
    if part.size_bytes != size:
        part.close()
        raise broken(str(path), f"it holds {part.size_bytes} bytes, its descriptor says {size}")
    return part


def _beside(descriptor: Path, name: str) -> Path:
    path = descriptor.parent / name
    if not name or name in (".", "..") or "/" in name or "\\" in name or "\0" in name:
        raise PermanentError(
            f"{descriptor} points at {name!r}, which is not a file beside it",
            cure="put the extents beside the descriptor and name them without folders",
            code="source-external",
        )
    try:
        mode = os.lstat(path).st_mode
    except OSError as error:
        raise storage_error(error, where="source", what=f"extent {path}") from error
    if not stat.S_ISREG(mode):
        raise PermanentError(
            f"{descriptor} points at {name!r}, which is a link or no plain file",
            cure="put the extent itself beside the descriptor",
            code="source-external",
        )
    return path
