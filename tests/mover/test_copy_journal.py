"""The journal: it never claims more than was made durable, whatever was cut off or belongs to another copy."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

import mover.journal
from mover.digest import ALGORITHM
from mover.failure import VolumeHeld, storage_error
from mover.geometry import BLOCK_BYTES
from mover.journal import Journal, Opened, believed_header
from mover.journal_format import DROPPED, PROVEN, RECORD_BYTES, Header, Record, replay
from mtv.model.errors import PermanentError, TemporaryError
from tests.mover.journals import records_of, told

HEADER = Header(
    identity="disk-1", generation="7", size_bytes=100 * BLOCK_BYTES, algorithm=ALGORITHM, target="inode 1", epoch=1
)
RECORDS = [
    Record(0, 1, PROVEN, b"a" * 32),
    Record(5, 20, PROVEN, b"z" * 32),
    Record(5, 1, DROPPED, bytes(32)),
    Record(99, 1, PROVEN, b"b" * 32),
]


def nothing() -> None:
    """A target that needs no preparation."""


def opened(path: Path, header: Header = HEADER) -> Opened:
    return Journal.open(path, header, prepare=nothing)


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "journal.bin"
    journal = opened(path).journal
    for record in RECORDS:
        journal.append([record])
    journal.close()
    return path


def test_what_was_appended_is_there_again(written: Path) -> None:
    again = opened(written)
    assert told(again.replayed) == told(replay(RECORDS, HEADER.size_bytes))
    assert again.restart_reason == ""
    again.journal.close()
    assert records_of(written) == RECORDS


def test_a_journal_cut_at_any_byte_gives_a_prefix_and_goes_on_from_there(written: Path, tmp_path: Path) -> None:
    whole = written.read_bytes()
    head = len(whole) - len(RECORDS) * RECORD_BYTES
    for length in range(len(whole) + 1):
        cut = tmp_path / "cut.bin"
        cut.write_bytes(whole[:length])
        again = opened(cut)
        kept = max(0, (length - head) // RECORD_BYTES)
        assert told(again.replayed) == told(replay(RECORDS[:kept], HEADER.size_bytes)), length
        extra = Record(42, 1, PROVEN, b"c" * 32)
        again.journal.append([extra])
        again.journal.close()
        opened(cut).journal.close()
        assert records_of(cut) == [*RECORDS[:kept], extra], length


def test_a_flipped_bit_anywhere_never_adds_or_changes_a_record(written: Path, tmp_path: Path) -> None:
    whole = written.read_bytes()
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 0x10
        path = tmp_path / "damaged.bin"
        path.write_bytes(damaged)
        opened(path).journal.close()
        left = records_of(path)
        assert left == RECORDS[: len(left)], position
        assert len(left) < len(RECORDS), position


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("identity", "x"),
        ("generation", "8"),
        ("size_bytes", 99 * BLOCK_BYTES),
        ("algorithm", "x"),
        ("target", "inode 2"),
    ],
)
def test_a_journal_of_something_else_starts_anew_and_says_so(written: Path, field: str, value: object) -> None:
    again = opened(written, msgspec.structs.replace(HEADER, **{field: value}))
    assert not any(again.replayed.proven)
    assert field.split("_")[0] in again.restart_reason
    again.journal.close()
    opened(written).journal.close()
    assert records_of(written) == []


def test_another_epoch_resumes(written: Path) -> None:
    opened(written, msgspec.structs.replace(HEADER, epoch=2)).journal.close()
    assert records_of(written) == RECORDS


def test_records_left_behind_by_another_header_never_count(written: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.bin"
    opened(other, msgspec.structs.replace(HEADER, generation="8")).journal.close()
    mixed = other.read_bytes() + written.read_bytes()[-len(RECORDS) * RECORD_BYTES :]
    other.write_bytes(mixed)
    opened(other, msgspec.structs.replace(HEADER, generation="8")).journal.close()
    assert records_of(other) == []


def test_the_target_is_prepared_before_a_new_header_says_that_it_was(tmp_path: Path) -> None:
    path = tmp_path / "journal.bin"
    seen: list[int] = []
    Journal.open(path, HEADER, prepare=lambda: seen.append(path.stat().st_size)).journal.close()
    assert seen == [0]
    Journal.open(path, HEADER, prepare=lambda: seen.append(-1)).journal.close()
    assert seen == [0]


@pytest.mark.parametrize("torn", [True, False])
def test_what_a_newer_mover_appends_while_an_older_one_reads_is_not_cut_off(
    written: Path, monkeypatch: pytest.MonkeyPatch, *, torn: bool
) -> None:
    if torn:
        written.write_bytes(written.read_bytes()[:-1])
    newer = Record(42, 1, PROVEN, b"c" * 32)
    lost: list[bool] = []

    def replay_slowly(*arguments: Any) -> Any:
        found = replay(*arguments)
        if not lost:
            lost.append(True)
            journal = opened(written).journal
            journal.append([newer])
            journal.close()
        return found

    def check_lock() -> None:
        if lost:
            raise VolumeHeld("a newer mover has the volume", code="volume-held")

    monkeypatch.setattr(mover.journal, "replay", replay_slowly)
    with contextlib.suppress(VolumeHeld):
        Journal.open(written, HEADER, prepare=nothing, check_lock=check_lock).journal.close()
    assert lost
    assert records_of(written)[-1] == newer


def test_a_journal_that_is_replaced_leaves_a_file_of_somebody_else_alone(tmp_path: Path) -> None:
    (tmp_path / "disk.img.new").write_bytes(b"somebody else's")
    path = tmp_path / "disk.img.mtv-journal"
    opened(path).journal.close()
    Journal.replace(path, HEADER, RECORDS)
    assert (tmp_path / "disk.img.new").read_bytes() == b"somebody else's"
    assert (believed_header(path), records_of(path)) == (HEADER, RECORDS)


def test_distrust_of_the_target_overrules_a_matching_journal(written: Path) -> None:
    again = Journal.open(written, HEADER, prepare=nothing, distrust="the target was cut")
    assert (any(again.replayed.proven), again.restart_reason) == (False, "the target was cut")
    again.journal.close()


def test_a_full_work_volume_is_a_clear_permanent_error() -> None:
    with pytest.raises(PermanentError) as caught:
        Journal(Path("/dev/full"), os.open("/dev/full", os.O_WRONLY), 0, 0).append(RECORDS)
    assert caught.value.code == "work-volume-full"


def test_an_io_error_may_pass_and_a_full_disk_does_not() -> None:
    assert isinstance(storage_error(OSError(5, "I/O error"), where="target", what="x"), TemporaryError)
    assert isinstance(storage_error(OSError(28, "No space"), where="target", what="x"), PermanentError)
