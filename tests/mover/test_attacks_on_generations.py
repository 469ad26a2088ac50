"""Attacks on what deltas and changing sources claim: old claims behind new ones, blocks never read back, lost zeros."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

import mover.targets.file
import mover.transfer
from mover.geometry import BLOCK_BYTES, Extent
from mover.journal import Journal, read_journal
from mover.journal_format import DROPPED, PROVEN, VERIFIED, Header, Record
from mover.measure import digest_of_path
from mover.sources.base import Piece, StreamSource
from mover.targets.file import FileTarget
from mtv.model.errors import MtvError, PermanentError
from mtv.model.transfer import Proof, TransferSpec
from tests.mover import moving
from tests.mover.journals import records_of
from tests.mover.test_deltas import delta, raw_disk

BLOCK = BLOCK_BYTES
SIZE = 3 * BLOCK + 5000
HEADER = Header(identity="d", generation="2", size_bytes=SIZE, algorithm="a", target="t", epoch=1)


# -- the journal that takes another's place


def test_what_a_delta_left_that_never_came_to_its_rename_is_no_claim_of_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = moving.make_disk(tmp_path / "s", SIZE, [(0, SIZE)], seed=1)
    assert moving.run(moving.spec_of(tmp_path / "w", raw_disk(source, tmp_path / "t", "1"))).result.ok
    newer = raw_disk(source, tmp_path / "t", "2")

    def cut_off(_fresh: Path, _path: Path) -> Path:
        raise OSError(5, "the power goes")

    with monkeypatch.context() as broken:
        broken.setattr(Path, "replace", cut_off)
        assert not moving.run(moving.spec_of(tmp_path / "w", delta(newer, "1", [(0, 1)]))).result.ok
    moving.make_disk(source, SIZE, [(0, SIZE)], seed=2)
    ran = moving.run(moving.spec_of(tmp_path / "w", delta(newer, "1", [(0, SIZE)])))
    assert ran.result.ok
    assert ran.result.disks[0].digest == digest_of_path(source)
    assert moving.same_bytes(source, tmp_path / "t", SIZE)


def test_a_mover_that_wakes_after_it_lost_the_lock_neither_puts_its_journal_in_place_nor_writes_into_another(
    tmp_path: Path,
) -> None:
    path = tmp_path / "journal-0.bin"
    Journal.replace(path, HEADER, [Record(0, 4, DROPPED, bytes(32))])
    before = path.read_bytes()
    asked = 0

    def lost() -> None:
        nonlocal asked
        asked += 1
        if asked > 1:
            raise PermanentError("a newer mover has the volume", code="volume-held")

    with pytest.raises(PermanentError, match="newer"):
        Journal.replace(path, HEADER, [Record(0, 4, PROVEN, bytes(32))], check_lock=lost)
    assert path.read_bytes() == before
    frozen = os.open(path.with_name(path.name + ".new"), os.O_RDWR)  # as it has it open
    Journal.replace(path, HEADER, [Record(1, 1, DROPPED, bytes(32))])
    os.pwrite(frozen, b"late", 0)
    os.close(frozen)
    assert read_journal(path)[0] == HEADER
    assert records_of(path) == [Record(1, 1, DROPPED, bytes(32))]


# -- read back, or not


def test_blocks_taken_over_on_a_target_without_a_mark_of_its_own_are_read_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mover.targets.file, "_generation", lambda _fd: None)  # as on NFS
    source = moving.make_disk(tmp_path / "s", SIZE, [(0, SIZE)])
    assert moving.run(moving.spec_of(tmp_path / "w", raw_disk(source, tmp_path / "t", "1"))).result.ok
    with (tmp_path / "t").open("r+b") as file:  # another one, as far as anybody can tell
        file.write(bytes(BLOCK))
    ran = moving.run(moving.spec_of(tmp_path / "w", delta(raw_disk(source, tmp_path / "t", "2"), "1", [])))
    assert ran.said("read back wrong")
    assert ran.result.disks[0].proof is Proof.AS_READ
    assert moving.same_bytes(source, tmp_path / "t", SIZE)


def test_a_block_that_was_taken_over_and_is_a_hole_now_is_read_back_before_it_counts_as_verified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = moving.make_disk(tmp_path / "s", SIZE, [(0, BLOCK), (BLOCK, SIZE)])
    assert moving.run(moving.spec_of(tmp_path / "w", raw_disk(source, tmp_path / "t", "1"))).result.ok
    moving.make_disk(source, SIZE, [(0, 0), (BLOCK, SIZE)])  # discarded, and the list of changes does not say so
    zero: Callable[[FileTarget, Extent], int] = FileTarget._zero_quickly
    lies = iter([True])
    monkeypatch.setattr(
        FileTarget, "_zero_quickly", lambda self, area: area.end if next(lies, False) else zero(self, area)
    )
    ran = moving.run(moving.spec_of(tmp_path / "w", delta(raw_disk(source, tmp_path / "t", "2"), "1", [])))
    assert ran.result.ok, ran.lines
    assert ran.said("read back wrong")
    assert moving.same_bytes(source, tmp_path / "t", SIZE)


# -- streams that change between reads


class Changing(StreamSource):
    """A stream whose blocks 0 and 1 hold something else at each read; an empty block is left out."""

    size_bytes = SIZE

    def __init__(self, reads: list[bytes], checksum: str = "", firsts: list[bytes] | None = None) -> None:
        self._reads = zip(firsts or [b"first"] * len(reads), reads, strict=True)
        self.content_checksum = checksum

    def open_stream(self) -> Iterator[Piece]:
        first, second = next(self._reads)
        yield Piece(0, first)
        if second:
            yield Piece(BLOCK, second)

    def close(self) -> None:
        """Nothing is open."""


def changing_spec(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    reads: list[bytes],
    checksum: str = "",
    firsts: list[bytes] | None = None,
) -> TransferSpec:
    monkeypatch.setattr(mover.transfer, "open_source", lambda _disk, _controls: Changing(reads, checksum, firsts))
    spec = moving.spec_of(tmp_path / "w", moving.disk_of("nbd://unused", SIZE, tmp_path / "t"))
    return msgspec.structs.replace(spec, verify_source=True)


def test_a_block_that_two_of_three_streams_do_not_hold_ends_as_zeros(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = moving.run(changing_spec(tmp_path, monkeypatch, [b"seen once", b"", b""]))
    assert ran.result.ok, ran.lines
    assert ran.result.disks[0].digest == digest_of_path(tmp_path / "t")
    assert (tmp_path / "t").read_bytes() == b"first".ljust(SIZE, b"\0")


def test_a_block_that_two_streams_agree_on_stays_when_a_third_is_asked_about_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    firsts = [b"wrong", b"right", b"right"]
    ran = moving.run(changing_spec(tmp_path, monkeypatch, [b"agreed", b"agreed", b"seen once"], firsts=firsts))
    assert ran.result.ok, ran.lines
    assert (ran.result.disks[0].digest, ran.result.disks[0].reread) == (digest_of_path(tmp_path / "t"), True)
    content = (tmp_path / "t").read_bytes()
    assert (content[:6], content[BLOCK : BLOCK + 7]) == (b"right\0", b"agreed\0")


def test_a_block_that_three_streams_tell_differently_one_of_them_by_silence_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = moving.run(changing_spec(tmp_path, monkeypatch, [b"seen once", b"seen twice", b""]))
    assert ran.result.failure is not None
    assert ran.result.failure.code == "source-unstable"
    journal = tmp_path / "w" / "journal-0.bin"
    assert not read_journal(journal)[1].proven[1]
    assert all(record.kind != VERIFIED for record in records_of(journal))


def test_the_sources_checksum_is_compared_with_what_the_later_reads_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = bytearray(b"first".ljust(SIZE, b"\0"))
    content[BLOCK : BLOCK + 3] = b"old"
    stated = f"sha256:{hashlib.sha256(content).hexdigest()}"
    ran = moving.run(changing_spec(tmp_path, monkeypatch, [b"old", b"new", b"new"], stated))
    assert ran.result.failure is not None
    assert ran.result.failure.code == "source-checksum"


# -- a killed mover's journal


def test_what_a_killed_mover_left_unflushed_in_its_journal_is_flushed_before_it_is_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "journal-0.bin"
    opened = Journal.open(path, HEADER, prepare=lambda: None)
    opened.journal.append([Record(0, 1, PROVEN, bytes(32))])

    def killed(_fd: int) -> None:
        raise OSError(5, "killed before the flush")

    with monkeypatch.context() as broken:
        broken.setattr(os, "fdatasync", killed)
        with pytest.raises(MtvError):
            opened.journal.append([Record(0, 1, DROPPED, bytes(32))])
    opened.journal.close()
    flushed: list[int] = []
    flush = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (flushed.append(os.fstat(fd).st_ino), flush(fd)))
    Journal.open(path, HEADER, prepare=lambda: None).journal.close()
    assert [record.kind for record in records_of(path)] == [PROVEN, DROPPED]
    assert flushed == [path.stat().st_ino]
