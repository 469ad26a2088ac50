"""What the first (or last) 512 bytes of a hosted sparse VMDK say, checked before anything is believed.

Offsets on disk are in sectors of 512 bytes. A grain is the unit of allocation, usually 128 sectors.
"""

from __future__ import annotations

import re
import struct

import msgspec

from mtv.model.errors import PermanentError

SECTOR_BYTES = 512
MAGIC = b"KDMV"
AT_END = 0xFFFFFFFFFFFFFFFF
"""Grain directory offset of a stream: the real one is in the footer."""
_LAYOUT = struct.Struct("<4sIIQQQQIQQQB4sH")
_HAS_ZERO_GRAINS = 1 << 2
_COMPRESSED = 1 << 16
_HAS_MARKERS = 1 << 17
_DEFLATE = 1
_NEWLINE_TEST = b"\n \r\n"
_MAX_GRAIN_SECTORS = 1 << 15
_MAX_CAPACITY_BYTES = 1 << 46
TABLE_ENTRIES = 512


class SparseHeader(msgspec.Struct, frozen=True, kw_only=True):
    """The layout of one sparse extent; sectors unless the name says otherwise."""

    capacity: int
    grain: int
    descriptor_offset: int
    descriptor_sectors: int
    directory_offset: int
    overhead: int
    has_zero_grains: bool
    is_stream: bool

    @property
    def capacity_bytes(self) -> int:
        """Size of the disk."""
        return self.capacity * SECTOR_BYTES

    @property
    def grain_bytes(self) -> int:
        """Size of a grain."""
        return self.grain * SECTOR_BYTES

    @property
    def most_packed_bytes(self) -> int:
        """More than deflate makes of a grain that it cannot shrink."""
        return self.grain_bytes + (self.grain_bytes >> 3) + 1024


def is_sparse_vmdk(start: bytes) -> bool:
    """Whether bytes begin a hosted sparse VMDK."""
    return start[:4] == MAGIC


def parse_header(raw: bytes, *, what: str) -> SparseHeader:
    """The header in `raw` (512 bytes); `what` names the file in errors."""
    if len(raw) < SECTOR_BYTES or not is_sparse_vmdk(raw):
        raise broken(what, "no VMDK header")
    (
        _magic,
        version,
        flags,
        capacity,
        grain,
        descriptor_offset,
        descriptor_sectors,
        table_entries,
        _redundant,
        directory_offset,
        overhead,
        _unclean,
        newlines,
        compression,
    ) = _LAYOUT.unpack_from(raw)
    if version not in (1, 2, 3):
        raise broken(what, f"version {version} is not known")
    if newlines != _NEWLINE_TEST:
        raise broken(what, "its line ends were changed by a text-mode transfer")
    if not 1 <= grain <= _MAX_GRAIN_SECTORS or grain & (grain - 1):
        raise broken(what, f"grain of {grain} sectors")
    if table_entries != TABLE_ENTRIES:
        raise broken(what, f"grain tables of {table_entries} entries")
    if not 0 < capacity * SECTOR_BYTES <= _MAX_CAPACITY_BYTES:
        raise broken(what, f"capacity of {capacity} sectors")
    compressed = bool(flags & _COMPRESSED)
    if compressed and compression != _DEFLATE:
        raise broken(what, f"compression kind {compression}")
    if compressed and not flags & _HAS_MARKERS:
        raise broken(what, "compressed without markers")
    return SparseHeader(
        capacity=capacity,
        grain=grain,
        descriptor_offset=descriptor_offset,
        descriptor_sectors=descriptor_sectors,
        directory_offset=directory_offset,
        overhead=overhead,
        has_zero_grains=bool(flags & _HAS_ZERO_GRAINS),
        is_stream=compressed,
    )


def refuse_parent(descriptor: bytes, *, what: str) -> None:
    """A disk that is a delta of another one is refused: its other half is not in the file."""
    match = re.search(rb"^\s*parentCID\s*=\s*([0-9a-fA-F]+)", descriptor, re.MULTILINE)
    if match and int(match.group(1), 16) != 0xFFFFFFFF:
        raise PermanentError(
            f"{what} is a snapshot delta, its parent disk is not part of it",
            cure="consolidate the snapshots and export again",
            code="source-delta",
        )


def broken(what: str, why: str) -> PermanentError:
    """The error for a VMDK that is damaged or not one that we read."""
    return PermanentError(f"{what} is not a sound VMDK: {why}", cure="export or fetch it again", code="source-corrupt")
