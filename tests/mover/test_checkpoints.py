"""When a copy makes its checkpoints, and what its last one says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mover.digest import ALGORITHM, BlockDigests, block_digest
from mover.geometry import BLOCK_BYTES
from mover.journal import Journal, read_journal
from mover.journal_format import DROPPED, PROVEN, VERIFIED, Header, Record, replay
from mover.ledger import Ledger
from mover.targets.file import FileTarget
from tests.mover.journals import records_of

BLOCKS = 32
NOISE = block_digest(b"noise")


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    header = Header(
        identity="disk", generation="1", size_bytes=BLOCKS * BLOCK_BYTES, algorithm=ALGORITHM, target="", epoch=1
    )
    opened = Journal.open(tmp_path / "journal", header, prepare=lambda: None).journal
    yield opened
    opened.close()


@pytest.fixture
def target(tmp_path: Path) -> Iterator[FileTarget]:
    opened = FileTarget(tmp_path / "t", BLOCKS * BLOCK_BYTES)
    opened.prepare()
    yield opened
    opened.close()


def batches(ledger: Ledger, expected: int | None) -> list[int]:
    """How many blocks each checkpoint proves when the copy waits for every one."""
    found: list[int] = []
    ledger.on_proven = lambda indexes: found.append(len(indexes))
    if expected is not None:
        ledger.expect(expected)
    for index in range(BLOCKS):
        ledger.stored(index, NOISE, BLOCK_BYTES)
        ledger.settle()
    return found


def test_checkpoints_come_closer_together_towards_the_end(journal: Journal, target: FileTarget) -> None:
    ledger = Ledger(journal, target, replay((), BLOCKS * BLOCK_BYTES), check_lock=lambda: None)
    assert batches(ledger, BLOCKS * BLOCK_BYTES) == [16, 8, 4, 2, 2]
    assert len(ledger.proven()) == BLOCKS


def test_where_the_end_is_not_known_checkpoints_are_equally_far_apart(journal: Journal, target: FileTarget) -> None:
    ledger = Ledger(journal, target, replay((), BLOCKS * BLOCK_BYTES), check_lock=lambda: None)
    assert batches(ledger, None) == [16, 16]


def test_the_journalled_root_counts_holes_as_zeros_whatever_lay_there_before(
    journal: Journal, target: FileTarget
) -> None:
    before = [Record(3, 1, PROVEN, NOISE), Record(3, 1, DROPPED, NOISE)]
    journal.append(before)
    ledger = Ledger(journal, target, replay(before, BLOCKS * BLOCK_BYTES), check_lock=lambda: None)
    ledger.complete(is_verified=True)
    records = records_of(journal.path)
    empty = BlockDigests(BLOCKS * BLOCK_BYTES).root()
    assert (records[-1].kind, records[-1].digest.hex()) == (VERIFIED, empty)
    assert read_journal(journal.path)[1].digests.root() == empty
    assert ledger.digests.root() == empty
