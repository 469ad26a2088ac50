"""Hosted sparse VMDKs read at any offset: streamOptimized (compressed grains) and monolithicSparse.

    grain directory ─▶ grain tables (512 entries) ─▶ grains
    an entry is 0 for a hole, 1 for zeros (if the header allows it), else the grain's sector

In a streamOptimized file the directory stands at the end (the footer says where), each grain is preceded by a marker
{first sector u64, compressed bytes u32} and deflated; zlib's own checksum finds damage.
"""

from __future__ import annotations

import struct
import zlib
from array import array
from collections.abc import Callable

from mover.geometry import Extent, merged
from mover.sources.base import RandomSource, Reader, ReadRequest
from mover.sources.vmdk_header import (
    AT_END,
    SECTOR_BYTES,
    TABLE_ENTRIES,
    SparseHeader,
    broken,
    parse_header,
    refuse_parent,
)
from mover.sources.window import Window

_MARKER = struct.Struct("<QI")
_HOLE, _ZEROS = 0, 1
_MAX_DESCRIPTOR_BYTES = 1 << 20


class SparseVmdkSource(RandomSource):
    """A sparse VMDK inside a local file. Grains that are absent are holes."""

    connections = 2

    def __init__(self, window: Window, *, checksum: str = "") -> None:
        self.window = window
        self.what = str(window.path)
        self.has_own_checksum = bool(checksum)
        self._checksum = checksum
        self.header = _true_header(window, self.what)
        self.size_bytes = self.header.capacity_bytes
        self.grains = _grain_sectors(window, self.header, self.what)

    def extents(self) -> list[Extent]:
        """The grains that are there."""
        size = self.header.grain_bytes
        present = (index for index, sector in enumerate(self.grains) if sector > _ZEROS)
        return merged((Extent(index * size, size) for index in present), self.size_bytes)

    def open_reader(self) -> Reader:
        """A reader on the same descriptor."""
        return _GrainReader(self)

    def check_own_checksum(self, should_stop: Callable[[], bool]) -> str:
        """The manifest's checksum over the stored bytes."""
        return self.window.check(self._checksum, should_stop)

    def forget(self) -> None:
        """Drop the file from the page cache."""
        self.window.forget()

    def close(self) -> None:
        """Close the file."""
        self.window.close()

    def read_grain(self, index: int) -> bytes:
        """The bytes of a grain that is there, inflated and checked."""
        start = self.grains[index] * SECTOR_BYTES
        if not self.header.is_stream:
            return self.window.read(
                min(self.header.grain_bytes, self.size_bytes - index * self.header.grain_bytes), start
            )
        lba, size = _MARKER.unpack(self.window.read(_MARKER.size, start))
        if lba != index * self.header.grain:
            raise broken(self.what, f"the grain at byte {start} is of sector {lba}, not {index * self.header.grain}")
        return inflate(self.window.read(size, start + _MARKER.size), self.header, lba, what=self.what)


class _GrainReader(Reader):
    def __init__(self, source: SparseVmdkSource) -> None:
        self._source = source

    def begin(self, request: ReadRequest) -> None:
        """Grains are read when they are asked for."""

    def complete(self, request: ReadRequest) -> None:
        size = self._source.header.grain_bytes
        for part in request.parts:
            view = request.place(part)
            position = part.offset
            while position < part.end:
                index, skip = divmod(position, size)
                wanted = min(size - skip, part.end - position)
                at = position - part.offset
                if self._source.grains[index] <= _ZEROS:
                    view[at : at + wanted] = bytes(wanted)
                else:
                    view[at : at + wanted] = memoryview(self._source.read_grain(index))[skip : skip + wanted]
                position += wanted

    def close(self) -> None:
        """The descriptor belongs to the source."""


def inflate(packed: bytes, header: SparseHeader, lba: int, *, what: str) -> bytes:
    """One grain's bytes. Its size is known beforehand, so a crafted one cannot fill memory; the last may be padded."""
    engine = zlib.decompressobj()
    try:
        data = engine.decompress(packed, header.grain_bytes + 1)
    except zlib.error as error:
        raise broken(what, f"the grain of sector {lba} does not inflate ({error})") from error
    needed = min(header.grain, header.capacity - lba) * SECTOR_BYTES
    if not engine.eof or not needed <= len(data) <= header.grain_bytes:
        raise broken(what, f"the grain of sector {lba} is cut short or too long")
    return data


def _true_header(window: Window, what: str) -> SparseHeader:
    header = parse_header(window.read(SECTOR_BYTES, 0), what=what)
    if header.descriptor_offset:
        length = min(header.descriptor_sectors * SECTOR_BYTES, _MAX_DESCRIPTOR_BYTES)
        refuse_parent(window.read(length, header.descriptor_offset * SECTOR_BYTES), what=what)
    if header.directory_offset != AT_END:
        return header
    # The file ends with: footer marker, footer, end-of-stream marker; a sector each.
    if window.length < 3 * SECTOR_BYTES:
        raise broken(what, "truncated before its footer")
    try:
        footer = parse_header(window.read(SECTOR_BYTES, window.length - 2 * SECTOR_BYTES), what=what)
    except Exception as error:
        raise broken(what, "it has no footer: truncated, or not closed when it was written") from error
    if footer.directory_offset == AT_END or (footer.capacity, footer.grain) != (header.capacity, header.grain):
        raise broken(what, "header and footer do not agree")
    return footer


def _grain_sectors(window: Window, header: SparseHeader, what: str) -> array[int]:
    grains = -(-header.capacity // header.grain)
    tables = -(-grains // TABLE_ENTRIES)
    directory = _entries(window.read(tables * 4, header.directory_offset * SECTOR_BYTES))
    sectors: array[int] = array("I")
    for table in directory:
        if table == _HOLE:
            sectors.extend(array("I", bytes(TABLE_ENTRIES * 4)))
        else:
            sectors.extend(_entries(window.read(TABLE_ENTRIES * 4, table * SECTOR_BYTES)))
    del sectors[grains:]
    limit = window.length // SECTOR_BYTES
    if max(sectors, default=0) >= limit:
        raise broken(what, f"a grain points at sector {max(sectors)} of {limit}: truncated")
    if _ZEROS in sectors and not header.has_zero_grains:
        raise broken(what, "a grain points into the header")
    return sectors


def _entries(raw: bytes) -> array[int]:
    entries: array[int] = array("I")
    entries.frombytes(raw)
    return entries
