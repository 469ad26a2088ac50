"""Journals record by record, as they were written, and what they say of a disk."""

from __future__ import annotations

from pathlib import Path

from mover.journal_format import Record, Replayed, find_header, read_records


def records_of(path: Path) -> list[Record]:
    with path.open("rb") as file:
        found = find_header(file.fileno())
        assert found is not None, f"{path} is no journal"
        return list(read_records(file.fileno(), found, path.stat().st_size))


def told(replayed: Replayed) -> tuple[str, bytes, bool, int]:
    """All that it says, to be compared."""
    return replayed.digests.root(), bytes(replayed.proven), replayed.is_verified, replayed.record_count
