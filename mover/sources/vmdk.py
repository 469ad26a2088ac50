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
from collections.abc import Callable, Iterator

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
from mtv.model.errors import PermanentError

_MARKER = struct.Struct("<QI")
_HOLE, _ZEROS = 0, 1
_MAX_DESCRIPTOR_BYTES = 1 << 20


class SparseVmdkSource(RandomSource):
    """A sparse VMDK inside a local file. Grains that are absent are holes.

    A header of another disk than one of `size_bytes` (0: not known) is refused before anything is read that is as large
    as the header says.
    """

    connections = 2

    def __init__(self, window: Window, *, checksum: str = "", size_bytes: int = 0) -> None:
        self.window = window
        self.files = window.files
        self.what = str(window.path)
        self.has_own_checksum = bool(checksum)
        self._checksum = checksum
        self.header = _true_header(window, self.what)
        self.size_bytes = self.header.capacity_bytes
        if size_bytes not in (0, self.size_bytes):
            raise PermanentError(
                f"{self.what} holds a disk of {self.size_bytes} bytes, {size_bytes} are expected",
                cure="read the inventory again: the disk was resized, or another one is meant",
                code="source-size",
            )
        self._tables = _grain_tables(window, self.header, self.what)

    def extents(self) -> list[Extent]:
        """The grains that are there."""
        return merged(self._runs(), self.size_bytes)

    def sector_of(self, index: int) -> int:
        """Where a grain lies in the file; `_HOLE` or `_ZEROS` if it does not."""
        table = self._tables[index // TABLE_ENTRIES]
        return _HOLE if table is None else table[index % TABLE_ENTRIES]

    def _runs(self) -> Iterator[Extent]:
        """Grains beside each other as one: a large disk has millions."""
        size = self.header.grain_bytes
        start = end = 0
        for number, table in enumerate(self._tables):
            for index, sector in enumerate(table or (), number * TABLE_ENTRIES):
                if sector <= _ZEROS:
                    continue
                if index != end:
                    yield Extent(start * size, (end - start) * size)
                    start = index
                end = index + 1
        yield Extent(start * size, (end - start) * size)

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
        start = self.sector_of(index) * SECTOR_BYTES
        if not self.header.is_stream:
            return self.window.read(
                min(self.header.grain_bytes, self.size_bytes - index * self.header.grain_bytes), start
            )
        lba, size = _MARKER.unpack(self.window.read(_MARKER.size, start))
        if lba != index * self.header.grain:
            raise broken(self.what, f"the grain at byte {start} is of sector {lba}, not {index * self.header.grain}")
        if size > self.header.most_packed_bytes:
            raise broken(self.what, f"the grain of sector {lba} has {size} bytes")
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
                if self._source.sector_of(index) <= _ZEROS:
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


def _grain_tables(window: Window, header: SparseHeader, what: str) -> list[array[int] | None]:
    """The tables that the directory names, None for one of holes only.

    Each is kept once, however often it is named, so that the file's size, not what it claims, bounds the memory.
    """
    grains = -(-header.capacity // header.grain)
    count = -(-grains // TABLE_ENTRIES)
    directory = _entries(window.read(count * 4, header.directory_offset * SECTOR_BYTES))
    known: dict[int, array[int] | None] = {_HOLE: None}
    for number, sector in enumerate(directory):
        if sector not in known:
            table = _entries(window.read(TABLE_ENTRIES * 4, sector * SECTOR_BYTES))
            del table[grains - number * TABLE_ENTRIES :]  # only the last one has more than the disk
            _check_table(table, window, header, what)
            known[sector] = table
    return [known[sector] for sector in directory]


def _check_table(table: array[int], window: Window, header: SparseHeader, what: str) -> None:
    limit = window.length // SECTOR_BYTES
    if max(table) >= limit:
        raise broken(what, f"a grain points at sector {max(table)} of {limit}: truncated")
    if _ZEROS in table and not header.has_zero_grains:
        raise broken(what, "a grain points into the header")


def _entries(raw: bytes) -> array[int]:
    entries: array[int] = array("I")
    entries.frombytes(raw)
    return entries
