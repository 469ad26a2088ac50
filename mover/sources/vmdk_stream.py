"""A streamOptimized VMDK read strictly from front to back: an export lease gives nothing else, nor does gzip.

header | descriptor | marker grain marker grain … marker table … marker directory marker footer | end-of-stream
marker  {sector u64, size u32, type u32}: size > 0 is a grain of so many deflated bytes, from byte 12 of the marker on;
        size 0 is metadata: type 0 end of stream, 1 grain table, 2 grain directory, 3 footer (sector: its length)
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable, Iterator

from mover.sources.base import Piece
from mover.sources.vmdk import inflate
from mover.sources.vmdk_header import (
    AT_END,
    SECTOR_BYTES,
    TABLE_ENTRIES,
    SparseHeader,
    broken,
    parse_header,
    refuse_parent,
)

ReadExactly = Callable[[int], bytes]
"""Returns exactly so many bytes of the stream or raises."""
_MARKER = struct.Struct("<QII")
_GRAIN_HEAD_BYTES = 12
_END, _FOOTER = 0, 3
_MAX_METADATA_SECTORS = 1 << 24
_MAX_PREAMBLE_SECTORS = 1 << 20
_SKIP_STEP_BYTES = 1 << 20


def decode_stream(read: ReadExactly, *, size_bytes: int, what: str) -> Iterator[Piece]:
    """The grains of a stream. Ends only at a true end-of-stream marker; anything else is an error."""
    header = parse_header(read(SECTOR_BYTES), what=what)
    if not header.is_stream:
        raise broken(what, "not streamOptimized, but it is read as a stream")
    if header.capacity_bytes != size_bytes:
        raise broken(what, f"it holds a disk of {header.capacity_bytes} bytes, expected {size_bytes}")
    preamble = _read_preamble(read, header, what)
    refuse_parent(_descriptor_in(preamble, header), what=what)
    expected = _grains_promised(preamble, header)
    del preamble
    following = seen = 0
    footer_seen = False
    while True:
        start = read(SECTOR_BYTES)
        sector, size, kind = _MARKER.unpack_from(start)
        if size:
            if size > header.most_packed_bytes or sector >= header.capacity or sector % header.grain:
                raise broken(what, f"a grain of {size} bytes for sector {sector}")
            if sector < following:
                raise broken(what, f"grains out of order: sector {sector} after {following}")
            whole = start + read(-(-(_GRAIN_HEAD_BYTES + size) // SECTOR_BYTES) * SECTOR_BYTES - SECTOR_BYTES)
            data = inflate(whole[_GRAIN_HEAD_BYTES : _GRAIN_HEAD_BYTES + size], header, sector, what=what)
            following, seen = sector + header.grain, seen + 1
            offset = sector * SECTOR_BYTES
            yield Piece(offset, data[: size_bytes - offset])
        elif kind == _END and (footer_seen or expected is not None):
            if expected is not None and seen != expected:
                raise broken(what, f"it ends after {seen} of {expected} grains")
            return
        elif kind == _END:
            continue  # padding before the footer
        elif kind == _FOOTER and sector == 1:
            footer = parse_header(read(SECTOR_BYTES), what=what)
            if (footer.capacity, footer.grain) != (header.capacity, header.grain):
                raise broken(what, "header and footer do not agree")
            footer_seen = True
        elif kind < _FOOTER and sector <= _MAX_METADATA_SECTORS:
            _skip(read, sector * SECTOR_BYTES)
        else:
            raise broken(what, f"marker of kind {kind}")


def _read_preamble(read: ReadExactly, header: SparseHeader, what: str) -> bytes:
    """What lies before the first grain, from sector 1 on."""
    if not 1 <= header.overhead <= _MAX_PREAMBLE_SECTORS:
        raise broken(what, f"preamble of {header.overhead} sectors")
    return read((header.overhead - 1) * SECTOR_BYTES)


def _descriptor_in(preamble: bytes, header: SparseHeader) -> bytes:
    start = (header.descriptor_offset - 1) * SECTOR_BYTES
    return preamble[start : start + header.descriptor_sectors * SECTOR_BYTES] if start >= 0 else b""


def _grains_promised(preamble: bytes, header: SparseHeader) -> int | None:
    """How many grains the tables name if they stand before the grains; None if they come at the end, after them.

    A zero sector is the end-of-stream marker, but also what padding and torn files are full of: only the number of
    grains, or the footer where there is one, says that an end is the end.
    """
    if header.directory_offset == AT_END:
        return None
    tables = -(-header.capacity // (header.grain * TABLE_ENTRIES))
    directory = _entries(preamble, header.directory_offset, tables)
    if len(directory) < tables:
        return None
    return sum(sum(entry > 1 for entry in _entries(preamble, table, TABLE_ENTRIES)) for table in directory if table)


def _entries(preamble: bytes, sector: int, count: int) -> array[int]:
    entries: array[int] = array("I")
    start = (sector - 1) * SECTOR_BYTES
    if start >= 0:
        piece = preamble[start : start + count * 4]
        entries.frombytes(piece[: len(piece) // 4 * 4])
    return entries


def _skip(read: ReadExactly, length: int) -> None:
    while length:
        length -= len(read(min(length, _SKIP_STEP_BYTES)))
