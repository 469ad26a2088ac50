"""A streamOptimized VMDK read strictly from front to back: an export lease gives nothing else, nor does gzip.

header | descriptor | marker grain marker grain … marker table … marker directory marker footer | end-of-stream
marker  {sector u64, size u32, type u32}: size > 0 is a grain of so many deflated bytes, from byte 12 of the marker on;
        size 0 is metadata: type 0 end of stream, 1 grain table, 2 grain directory, 3 footer (sector: its length)
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

from mover.sources.base import Piece
from mover.sources.vmdk import inflate
from mover.sources.vmdk_header import SECTOR_BYTES, broken, parse_header, refuse_parent

ReadExactly = Callable[[int], bytes]
"""Returns exactly so many bytes of the stream or raises."""
_MARKER = struct.Struct("<QII")
_GRAIN_HEAD_BYTES = 12
_END, _FOOTER = 0, 3
_MAX_METADATA_SECTORS = 1 << 24
_SKIP_STEP_BYTES = 1 << 20


def decode_stream(read: ReadExactly, *, size_bytes: int, what: str) -> Iterator[Piece]:
    """The grains of a stream. Ends only at the end-of-stream marker; anything else is an error."""
    header = parse_header(read(SECTOR_BYTES), what=what)
    if not header.is_stream:
        raise broken(what, "not streamOptimized, but it is read as a stream")
    if header.capacity_bytes != size_bytes:
        raise broken(what, f"it holds a disk of {header.capacity_bytes} bytes, expected {size_bytes}")
    _skip_preamble(read, header.overhead, header.descriptor_offset, header.descriptor_sectors, what)
    largest = header.grain_bytes + (header.grain_bytes >> 3) + 1024
    following = 0
    while True:
        start = read(SECTOR_BYTES)
        sector, size, kind = _MARKER.unpack_from(start)
        if size:
            if size > largest or sector >= header.capacity or sector % header.grain:
                raise broken(what, f"a grain of {size} bytes for sector {sector}")
            if sector < following:
                raise broken(what, f"grains out of order: sector {sector} after {following}")
            whole = start + read(-(-(_GRAIN_HEAD_BYTES + size) // SECTOR_BYTES) * SECTOR_BYTES - SECTOR_BYTES)
            data = inflate(whole[_GRAIN_HEAD_BYTES : _GRAIN_HEAD_BYTES + size], header, sector, what=what)
            following = sector + header.grain
            offset = sector * SECTOR_BYTES
            yield Piece(offset, data[: size_bytes - offset])
        elif kind == _END:
            return
        elif kind <= _FOOTER and sector <= _MAX_METADATA_SECTORS:
            _skip(read, sector * SECTOR_BYTES)
        else:
            raise broken(what, f"marker of kind {kind}")


def _skip_preamble(read: ReadExactly, overhead: int, descriptor: int, descriptor_sectors: int, what: str) -> None:
    if not 1 <= overhead <= _MAX_METADATA_SECTORS:
        raise broken(what, f"preamble of {overhead} sectors")
    if descriptor and descriptor + descriptor_sectors <= min(overhead, 4096):
        before = read((descriptor - 1) * SECTOR_BYTES)
        text = read(descriptor_sectors * SECTOR_BYTES)
        refuse_parent(text, what=what)
        _skip(read, overhead * SECTOR_BYTES - SECTOR_BYTES - len(before) - len(text))
    else:
        _skip(read, (overhead - 1) * SECTOR_BYTES)


def _skip(read: ReadExactly, length: int) -> None:
    while length:
        length -= len(read(min(length, _SKIP_STEP_BYTES)))
