"""The journal of one disk: which blocks are proven to be on the target, with their digests.

A record is appended only after the block is durable (write → fdatasync target → append → fdatasync journal), so the
journal never claims more than the disk holds. Layout, little-endian:

    header   magic `MTVJRNL1` | length u32 | JSON of that length | CRC-32 u32 of the JSON
    record   first block u64 | count u32 | kind u8 | digest 32 bytes | CRC-32 u32, seeded with the header's CRC

Kinds: 1 PROVEN (count blocks have this digest), 2 DROPPED (they are no longer proven and may hold anything),
3 VERIFIED (as the last record only: every block was read back after it was written; the digest is the root's).
The last record of a block wins. A torn tail is cut off. Records of another header never match, because their CRC is
seeded with it.
The header binds the journal to source, generation, size, scheme and target; anything else starts from zero.
"""

from __future__ import annotations

import os
import struct
import urllib.parse
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from mover.digest import DIGEST_BYTES, BlockDigests
from mover.failure import storage_error
from mover.geometry import block_count
from mover.positioned import close_flushed, write_all
from mtv.model.errors import NOT_UNDERSTOOD, PermanentError

MAGIC = b"MTVJRNL1"
PROVEN = 1
DROPPED = 2
VERIFIED = 3
_KINDS = (PROVEN, DROPPED, VERIFIED)
_LENGTH = struct.Struct("<I")
_RECORD = struct.Struct(f"<QIB{DIGEST_BYTES}s")
RECORD_BYTES = _RECORD.size + 4
_MAX_HEADER_BYTES = 64 << 10
_MAX_TORN_BYTES = len(MAGIC) + 2 * _LENGTH.size + _MAX_HEADER_BYTES


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


class Record(NamedTuple):
    """`blocks` blocks from `first` on are proven with `digest`, or dropped."""

    first: int
    blocks: int
    kind: int
    digest: bytes


class Opened(NamedTuple):
    """A journal ready to append, what it already proves, and why it began anew (empty: it did not, or is new).
    `goes_on`: it was there, so an earlier attempt may have left more on the target than is proven.
    """

    journal: Journal
    records: list[Record]
    restart_reason: str
    goes_on: bool


class Journal:
    """An open journal. All methods raise storage errors with the code `work-volume-…`."""

    def __init__(self, path: Path, fd: int, seed: int, end: int) -> None:
        self.path = path
        self._fd = fd
        self._seed = seed
        self._end = end

    @classmethod
    def open(
        cls,
        path: Path,
        header: Header,
        *,
        prepare: Callable[[], None],
        distrust: str = "",
        check_lock: Callable[[], None] = lambda: None,
    ) -> Opened:
        """Open or begin the journal at `path` for this header.

        `prepare` makes the target ready for a copy from zero. It runs when the old claims are durably gone and before
        a new header is written: a crash in between leaves neither claims for a target that was just emptied nor a
        journal for one that still holds something else. `distrust` is a reason of the caller's not to go on (empty:
        none). `check_lock` raises if we may no longer write; it is asked right before every change.
        """
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise storage_error(error, where="work-volume", what=f"journal {path}") from error
        try:
            raw = _read_all(fd)
            found = _parse_header(raw)
            if found is None:
                reason = "its journal is damaged at the start" if raw else ""
            elif found.header.spoiled:
                reason = found.header.spoiled
            elif distrust:
                reason = distrust
            elif differing := header.differs_from(found.header):
                reason = "another " + " and ".join(name.replace("_", " ") for name in differing)
            else:
                records, end = _parse_records(raw, found.end, found.crc, block_count(header.size_bytes))
                if end < len(raw):
                    check_lock()  # only now: reading may have taken long, and a newer mover's records may follow
                    os.ftruncate(fd, end)
                # A killed mover may have written this without flushing it. Believed now, it must not be lost later:
                # a DROPPED that goes while what it allowed to be overwritten stays would leave a false claim.
                os.fsync(fd)
                return Opened(cls(path, fd, found.crc, end), records, "", goes_on=True)
            check_lock()
            os.ftruncate(fd, 0)
            os.fsync(fd)
            prepare()
            check_lock()
            return Opened(_begin(path, fd, header), [], reason, goes_on=False)
        except OSError as error:
            close_flushed(fd)
            raise storage_error(error, where="work-volume", what=f"journal {path}") from error
        except BaseException:
            close_flushed(fd)
            raise

    @classmethod
    def replace(
        cls,
        path: Path,
        header: Header,
        records: Iterable[Record],
        *,
        check_lock: Callable[[], None] = lambda: None,
    ) -> None:
        """Put a journal with this header and these records in the place of the one at `path`, whole or not at all.

        `check_lock` raises if we may no longer write; it is asked at the start and right before the rename.
        """
        fresh = path.with_name(path.name + ".new")
        check_lock()
        try:
            # A file of its own: what an attempt that was cut off left there holds records that would count behind ours,
            # and a mover that lost the lock may still have it open.
            fresh.unlink(missing_ok=True)
            fd = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise storage_error(error, where="work-volume", what=f"journal {fresh}") from error
        try:
            _begin(fresh, fd, header).append(records)
            check_lock()
            fresh.replace(path)
            sync_folder(path.parent)
        except OSError as error:
            raise storage_error(error, where="work-volume", what=f"journal {path}") from error
        finally:
            close_flushed(fd)

    def append(self, records: Iterable[Record]) -> None:
        """Add records and make them durable. What a failed append may leave is overwritten by the next or torn."""
        packed = b"".join(self._pack(record) for record in records)
        try:
            write_all(self._fd, memoryview(packed), self._end)
            os.fdatasync(self._fd)
        except OSError as error:
            raise storage_error(error, where="work-volume", what=f"journal {self.path}") from error
        self._end += len(packed)

    def close(self) -> None:
        """Close the file. Nothing is written any more: the volume may belong to a newer mover by now."""
        close_flushed(self._fd)

    def _pack(self, record: Record) -> bytes:
        body = _RECORD.pack(*record)
        return body + _LENGTH.pack(zlib.crc32(body, self._seed))


def journal_path(work_dir: Path, disk_id: str) -> Path:
    """Where a disk's journal is; ids with characters that file names do not bear are quoted."""
    return work_dir / f"journal-{urllib.parse.quote(disk_id, safe='')}.bin"


def spoil(path: Path, why: str, *, check_lock: Callable[[], None] = lambda: None) -> None:
    """Take back, durably, all that a journal claims: something else is about to write to its target.

    Where there is no journal, or none that anybody would believe, nothing is done.
    """
    if header := _believed_header(path):
        Journal.replace(path, msgspec.structs.replace(header, spoiled=why), [], check_lock=check_lock)


def refuse_other_file(path: Path) -> None:
    """Raise `PermanentError` (code journal) for a file that holds anything but a journal, or the torn beginning of one.

    For paths that people give: whoever opens a journal makes it anew where it is none.
    """
    if not is_there(path):
        return
    try:
        is_journal = path.is_file() and _may_be_journal(path)  # a pipe would never answer
    except OSError as error:
        raise storage_error(error, where="work-volume", what=f"journal {path}") from error
    if not is_journal:
        raise PermanentError(
            f"{path} is no journal of this mover, and would be overwritten",
            cure="name another file; or remove it, if nothing else needs it",
            code="journal",
        )


def is_there(path: Path) -> bool:
    """Whether anything is at a journal's path. Raises storage errors."""
    try:
        return path.exists()
    except OSError as error:
        raise storage_error(error, where="work-volume", what=f"journal {path}") from error


def _may_be_journal(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(_MAX_TORN_BYTES + 1)
    is_torn = len(start) <= _MAX_TORN_BYTES and (MAGIC.startswith(start) or not any(start))
    return is_torn or start.startswith(MAGIC)


def is_believed(path: Path) -> bool:
    """Whether there is a journal that is not spoiled: since its copy began, nothing else has written to its target."""
    return _believed_header(path) is not None


def _believed_header(path: Path) -> Header | None:
    if not is_there(path):
        return None
    try:
        header, _ = read_journal(path)
    except PermanentError as error:
        if error.code == "journal":
            return None
        raise
    return None if header.spoiled else header


def read_journal(path: Path) -> tuple[Header, list[Record]]:
    """What a journal says, without opening it for writing. A torn tail counts for nothing.

    Raises `PermanentError` (code journal) if it is no journal of ours.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            raw = _read_all(fd)
        finally:
            os.close(fd)
    except OSError as error:
        raise storage_error(error, where="work-volume", what=f"journal {path}") from error
    found = _parse_header(raw)
    if found is None:
        raise PermanentError(
            f"{path} is not a journal of this mover, or is damaged at its start",
            cure="name the journal of this target's copy",
            code="journal",
        )
    records, _ = _parse_records(raw, found.end, found.crc, block_count(found.header.size_bytes))
    return found.header, records


class Replayed(NamedTuple):
    """Where records leave a disk: the digests of its blocks, 1 for each block that is proven, and whether all of them
    were read back and nothing was journalled since.
    """

    digests: BlockDigests
    proven: bytearray
    is_verified: bool


def replay(records: Iterable[Record], size_bytes: int) -> Replayed:
    """Go through the records in their order."""
    digests = BlockDigests(size_bytes)
    proven = bytearray(digests.count)
    is_verified = False
    for record in records:
        is_verified = record.kind == VERIFIED
        if is_verified:
            continue
        for index in range(record.first, record.first + record.blocks):
            proven[index] = record.kind == PROVEN
            if record.kind == PROVEN:
                digests[index] = record.digest
    return Replayed(digests, proven, is_verified)


class _FoundHeader(NamedTuple):
    header: Header
    crc: int
    end: int


def _begin(path: Path, fd: int, header: Header) -> Journal:
    # The file is durably empty: no old record survives behind the new header.
    text = msgspec.json.encode(header)
    crc = zlib.crc32(text)
    raw = MAGIC + _LENGTH.pack(len(text)) + text + _LENGTH.pack(crc)
    write_all(fd, memoryview(raw), 0)
    os.fsync(fd)
    sync_folder(path.parent)
    return Journal(path, fd, crc, len(raw))


def sync_folder(folder: Path) -> None:
    """Make names created in a folder durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _read_all(fd: int) -> bytes:
    size = os.fstat(fd).st_size
    pieces, position = [], 0
    while position < size and (piece := os.pread(fd, min(16 << 20, size - position), position)):
        pieces.append(piece)
        position += len(piece)
    return b"".join(pieces)


def _parse_header(raw: bytes) -> _FoundHeader | None:
    start = len(MAGIC) + _LENGTH.size
    if raw[: len(MAGIC)] != MAGIC or len(raw) < start:
        return None
    (length,) = _LENGTH.unpack_from(raw, len(MAGIC))
    end = start + length + _LENGTH.size
    if length > _MAX_HEADER_BYTES or len(raw) < end:
        return None
    text = raw[start : start + length]
    crc = zlib.crc32(text)
    if _LENGTH.unpack_from(raw, start + length)[0] != crc:
        return None
    try:
        return _FoundHeader(msgspec.json.decode(text, type=Header), crc, end)
    except NOT_UNDERSTOOD:
        return None  # written by another version: its records are not ours to trust


def _parse_records(raw: bytes, start: int, seed: int, blocks: int) -> tuple[list[Record], int]:
    records: list[Record] = []
    end = start
    for record in _valid_records(raw, start, seed):
        if record.blocks < 1 or record.first + record.blocks > blocks or record.kind not in _KINDS:
            break
        records.append(record)
        end += RECORD_BYTES
    return records, end


def _valid_records(raw: bytes, start: int, seed: int) -> Iterator[Record]:
    view = memoryview(raw)
    for position in range(start, len(raw) - RECORD_BYTES + 1, RECORD_BYTES):
        body = view[position : position + _RECORD.size]
        if zlib.crc32(body, seed) != _LENGTH.unpack_from(raw, position + _RECORD.size)[0]:
            return
        yield Record(*_RECORD.unpack(body))
