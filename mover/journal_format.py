"""The bytes of a journal: a header, then records. They are read a piece at a time: a journal of 1 TiB has 13 MB.

Little-endian:

    header   magic `MTVJRNL1` | length u32 | JSON of that length | CRC-32 u32 of the JSON
    record   first block u64 | count u32 | kind u8 | digest 32 bytes | CRC-32 u32, seeded with the header's CRC

Kinds: 1 PROVEN (count blocks have this digest), 2 DROPPED (they are no longer proven and may hold anything),
3 VERIFIED (as the last record only: every block was read back after it was written; the digest is the root's).
The last record of a block wins. A torn tail is cut off. Records of another header never match, because their CRC is
seeded with it.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec

from mover.digest import DIGEST_BYTES, BlockDigests
from mover.geometry import block_count
from mtv.model.errors import NOT_UNDERSTOOD

MAGIC = b"MTVJRNL1"
PROVEN = 1
DROPPED = 2
VERIFIED = 3
_KINDS = (PROVEN, DROPPED, VERIFIED)
_LENGTH = struct.Struct("<I")
_RECORD = struct.Struct(f"<QIB{DIGEST_BYTES}s")
RECORD_BYTES = _RECORD.size + 4
_MAX_TEXT_BYTES = 64 << 10
MAX_HEADER_BYTES = len(MAGIC) + 2 * _LENGTH.size + _MAX_TEXT_BYTES
_PIECE_BYTES = 4096 * RECORD_BYTES


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """What a journal is about. `target` is what tells the target from others: see `Target.mark`.

    `spoiled` says what else has written to the target since; then the journal proves nothing ("": nothing did).
    """

    identity: str
    generation: str
    size_bytes: int
    algorithm: str
    target: str
    epoch: int
    spoiled: str = ""

    def differs_from(self, other: Header) -> list[str]:
        """Names of the fields that forbid to resume; the epoch is not among them."""
        bound = ("identity", "generation", "size_bytes", "algorithm", "target")
        return [name for name in bound if getattr(self, name) != getattr(other, name)]


class FoundHeader(NamedTuple):
    """A header as it stands in a file: where it ends, and what its records' checksums begin with."""

    header: Header
    seed: int
    end: int


class Record(NamedTuple):
    """`blocks` blocks from `first` on are proven with `digest`, or dropped."""

    first: int
    blocks: int
    kind: int
    digest: bytes


class Replayed(NamedTuple):
    """Where records leave a disk: the digests of its blocks, 1 for each block that is proven, whether all of them were
    read back and nothing was journalled since, and how many records that were.
    """

    digests: BlockDigests
    proven: bytearray
    is_verified: bool
    record_count: int


def pack_header(header: Header) -> tuple[bytes, int]:
    """Return the header's bytes, and the seed of its records' checksums."""
    text = msgspec.json.encode(header)
    seed = zlib.crc32(text)
    return MAGIC + _LENGTH.pack(len(text)) + text + _LENGTH.pack(seed), seed


def find_header(fd: int) -> FoundHeader | None:
    """The header at the start of a file; None if there is none of ours. Raises `OSError`."""
    raw = _read_at(fd, MAX_HEADER_BYTES, 0)
    start = len(MAGIC) + _LENGTH.size
    if raw[: len(MAGIC)] != MAGIC or len(raw) < start:
        return None
    (length,) = _LENGTH.unpack_from(raw, len(MAGIC))
    end = start + length + _LENGTH.size
    if length > _MAX_TEXT_BYTES or len(raw) < end:
        return None
    text = raw[start : start + length]
    seed = zlib.crc32(text)
    if _LENGTH.unpack_from(raw, start + length)[0] != seed:
        return None
    try:
        return FoundHeader(msgspec.json.decode(text, type=Header), seed, end)
    except NOT_UNDERSTOOD:
        return None  # written by another version: its records are not ours to trust


def pack_record(record: Record, seed: int) -> bytes:
    """Return the record's bytes."""
    body = _RECORD.pack(*record)
    return body + _LENGTH.pack(zlib.crc32(body, seed))


def read_records(fd: int, found: FoundHeader, end: int) -> Iterator[Record]:
    """The records behind a header, up to the offset `end` or the first that is torn or none. Raises `OSError`."""
    blocks = block_count(found.header.size_bytes)
    for position in range(found.end, end, _PIECE_BYTES):
        piece = _read_at(fd, min(_PIECE_BYTES, end - position), position)
        for start in range(0, len(piece) - RECORD_BYTES + 1, RECORD_BYTES):
            body = piece[start : start + _RECORD.size]
            if zlib.crc32(body, found.seed) != _LENGTH.unpack_from(piece, start + _RECORD.size)[0]:
                return
            record = Record(*_RECORD.unpack(body))
            if record.blocks < 1 or record.first + record.blocks > blocks or record.kind not in _KINDS:
                return
            yield record
        if len(piece) < _PIECE_BYTES:
            return


def replay(records: Iterable[Record], size_bytes: int) -> Replayed:
    """Go through the records in their order."""
    digests = BlockDigests(size_bytes)
    proven = bytearray(digests.count)
    is_verified = False
    count = 0
    for record in records:
        count += 1
        is_verified = record.kind == VERIFIED
        if is_verified:
            continue
        for index in range(record.first, record.first + record.blocks):
            proven[index] = record.kind == PROVEN
            if record.kind == PROVEN:
                digests[index] = record.digest
    return Replayed(digests, proven, is_verified, count)


def _read_at(fd: int, length: int, position: int) -> bytes:
    pieces = []
    while length and (piece := os.pread(fd, length, position)):
        pieces.append(piece)
        length -= len(piece)
        position += len(piece)
    return b"".join(pieces)
