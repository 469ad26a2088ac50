"""The journal of one disk: which blocks are proven to be on the target, with their digests.

A record is appended only after the block is durable (write → fdatasync target → append → fdatasync journal), so the
journal never claims more than the disk holds. Its header binds it to source, generation, size, scheme and target;
anything else starts from zero. `mover.journal_format` has the bytes.
"""

from __future__ import annotations

import os
import urllib.parse
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import msgspec

from mover.failure import storage_error, would_overwrite
from mover.journal_format import (
    MAGIC,
    MAX_HEADER_BYTES,
    RECORD_BYTES,
    Header,
    Record,
    Replayed,
    find_header,
    pack_header,
    pack_record,
    read_records,
    replay,
)
from mover.positioned import close_flushed, write_all
from mtv.model.errors import PermanentError

_APPENDED_AT_ONCE = 4096


class Opened(NamedTuple):
    """A journal ready to append, what it already proves, and why it began anew (empty: it did not, or is new).
    `goes_on`: it was there, so an earlier attempt may have left more on the target than is proven.
    """

    journal: Journal
    replayed: Replayed
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
            size = os.fstat(fd).st_size
            found = find_header(fd)
            if found is None:
                reason = "its journal is damaged at the start" if size else ""
            elif found.header.spoiled:
                reason = found.header.spoiled
            elif distrust:
                reason = distrust
            elif differing := header.differs_from(found.header):
                reason = "another " + " and ".join(name.replace("_", " ") for name in differing)
            else:
                replayed = replay(read_records(fd, found, size), header.size_bytes)
                end = found.end + replayed.record_count * RECORD_BYTES
                if end < size:
                    check_lock()  # only now: reading may have taken long, and a newer mover's records may follow
                    os.ftruncate(fd, end)
                # A killed mover may have written this without flushing it. Believed now, it must not be lost later:
                # a DROPPED that goes while what it allowed to be overwritten stays would leave a false claim.
                os.fsync(fd)
                return Opened(cls(path, fd, found.seed, end), replayed, "", goes_on=True)
            check_lock()
            os.ftruncate(fd, 0)
            os.fsync(fd)
            prepare()
            check_lock()
            return Opened(_begin(path, fd, header), replay((), header.size_bytes), reason, goes_on=False)
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
            journal, left = _begin(fresh, fd, header), iter(records)
            while some := list(islice(left, _APPENDED_AT_ONCE)):
                journal.append(some)
            check_lock()
            fresh.replace(path)
            sync_folder(path.parent)
        except OSError as error:
            raise storage_error(error, where="work-volume", what=f"journal {path}") from error
        finally:
            close_flushed(fd)

    def append(self, records: Iterable[Record]) -> None:
        """Add records and make them durable. What a failed append may leave is overwritten by the next or torn."""
        packed = b"".join(pack_record(record, self._seed) for record in records)
        try:
            write_all(self._fd, memoryview(packed), self._end)
            os.fdatasync(self._fd)
        except OSError as error:
            raise storage_error(error, where="work-volume", what=f"journal {self.path}") from error
        self._end += len(packed)

    def close(self) -> None:
        """Close the file. Nothing is written any more: the volume may belong to a newer mover by now."""
        close_flushed(self._fd)


def journal_path(work_dir: Path, disk_id: str) -> Path:
    """Where a disk's journal is; ids with characters that file names do not bear are quoted."""
    return work_dir / f"journal-{urllib.parse.quote(disk_id, safe='')}.bin"


def spoil(path: Path, why: str, *, check_lock: Callable[[], None] = lambda: None) -> None:
    """Take back, durably, all that a journal claims: something else is about to write to its target.

    Where there is no journal, or none that anybody would believe, nothing is done.
    """
    if header := believed_header(path):
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
        raise would_overwrite(path, "journal")


def is_there(path: Path) -> bool:
    """Whether anything is at a journal's path. Raises storage errors."""
    try:
        return path.exists()
    except OSError as error:
        raise storage_error(error, where="work-volume", what=f"journal {path}") from error


def _may_be_journal(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(MAX_HEADER_BYTES + 1)
    is_torn = len(start) <= MAX_HEADER_BYTES and (MAGIC.startswith(start) or not any(start))
    return is_torn or start.startswith(MAGIC)


def is_believed(path: Path) -> bool:
    """Whether there is a journal that is not spoiled: since its copy began, nothing else has written to its target."""
    return believed_header(path) is not None


def believed_header(path: Path) -> Header | None:
    """The header of a journal that is not spoiled; None where there is none, or one that is damaged at its start."""
    if not is_there(path):
        return None
    with _reading(path) as fd:
        found = find_header(fd)
    return None if found is None or found.header.spoiled else found.header


def read_journal(path: Path) -> tuple[Header, Replayed]:
    """What a journal says, without opening it for writing. A torn tail counts for nothing.

    Raises `PermanentError` (code journal) if it is no journal of ours.
    """
    with _reading(path) as fd:
        found = find_header(fd)
        if found is None:
            raise PermanentError(
                f"{path} is not a journal of this mover, or is damaged at its start",
                cure="name the journal of this target's copy",
                code="journal",
            )
        end = os.fstat(fd).st_size
        return found.header, replay(read_records(fd, found, end), found.header.size_bytes)


@contextmanager
def _reading(path: Path) -> Iterator[int]:
    try:
        with path.open("rb", buffering=0) as file:
            yield file.fileno()
    except OSError as error:
        raise storage_error(error, where="work-volume", what=f"journal {path}") from error


def _begin(path: Path, fd: int, header: Header) -> Journal:
    # The file is durably empty: no old record survives behind the new header.
    raw, seed = pack_header(header)
    write_all(fd, memoryview(raw), 0)
    os.fsync(fd)
    sync_folder(path.parent)
    return Journal(path, fd, seed, len(raw))


def sync_folder(folder: Path) -> None:
    """Make names created in a folder durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
