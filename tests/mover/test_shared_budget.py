"""Disks that share a budget, whatever happens to their sources: all end, none takes too much, all of it comes back."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mover.transfer
from mover.budget import Budget
from mover.crew import Crew
from mover.feed import Loaded, RandomFeed, run_lanes
from mover.geometry import BLOCK_BYTES, Extent, cut_into_blocks
from mover.halt import Halt
from mover.sources.base import Piece, RandomSource, Reader, ReadRequest, StreamSource
from mtv.model.errors import MtvError, PermanentError, TemporaryError
from tests.mover import moving

ENDS_WITHIN_S = 60.0
"""Only a bound for disks that wait for each other."""


class Connections:
    """How many are open at all sources together."""

    def __init__(self) -> None:
        self.open = self.most = 0
        self._lock = threading.Lock()

    def change(self, by: int) -> None:
        """One more or one less."""
        with self._lock:
            self.open += by
            self.most = max(self.most, self.open)


class Moody(RandomSource):
    """A source that fails now and then when it is connected to, asked or answers, and sometimes for good."""

    def __init__(self, seed: int, connections: Connections) -> None:
        self.rng = random.Random(seed)
        self.size_bytes = self.rng.randint(1, 40) * BLOCK_BYTES
        self.connections, self.depth = self.rng.randint(1, 3), self.rng.randint(1, 3)
        self.fails, self.dies = self.rng.choice([0, 0.02, 0.1]), self.rng.choice([0, 0, 0.01])
        self.all = connections
        self.most_asked = 0

    def extents(self) -> list[Extent]:
        return [Extent(offset, 16) for offset in range(0, self.size_bytes, BLOCK_BYTES)]

    def open_reader(self) -> Reader:
        self.hiccup()
        return _Moody(self)

    def hiccup(self) -> None:
        if self.rng.random() < self.fails:
            raise TemporaryError("a hiccup")

    def close(self) -> None:
        """Nothing is open."""


class _Moody(Reader):
    def __init__(self, source: Moody) -> None:
        self._source = source
        self._asked = 0
        source.all.change(1)

    def begin(self, request: ReadRequest) -> None:
        self._asked += 1
        self._source.most_asked = max(self._source.most_asked, self._asked)
        self._source.hiccup()

    def complete(self, request: ReadRequest) -> None:
        self._source.hiccup()
        if self._source.rng.random() < self._source.dies:
            raise PermanentError("gone")
        self._asked -= 1

    def close(self) -> None:
        self._source.all.change(-1)


def read_all(source: Moody, budget: Budget, stops_after: int) -> None:
    """Read a disk in all its lanes; what was read is whole unless it failed or was stopped."""
    halt, seen = Halt(), list[int]()

    def see(loaded: Loaded) -> None:
        seen.append(loaded.block)
        if len(seen) == stops_after:
            halt.set()

    feed = RandomFeed(source, cut_into_blocks(source.extents()), halt, lambda _said: None, budget)
    lanes = feed.lanes()
    try:
        run_lanes(lanes, see, Crew(halt))
    except MtvError:
        pass
    else:
        assert halt.is_set() or sorted(seen) == list(range(source.size_bytes // BLOCK_BYTES))
    finally:
        for lane in lanes:
            lane.close()
    assert len(seen) == len(set(seen)), "a block was given out twice"
    assert source.most_asked <= source.depth + 1
    assert feed.depth.under_way == 0


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1 << 30), disks=st.integers(1, 4), limit=st.integers(1, 8))
def test_disks_that_fail_stop_or_reconnect_leave_the_budget_to_the_others(seed: int, disks: int, limit: int) -> None:
    with pytest.MonkeyPatch.context() as patched:
        moving.hurry(patched)
        budget, connections, rng = Budget(disks_at_once=disks, connections=limit), Connections(), random.Random(seed)
        before = all_of(budget)
        crew = Crew(Halt())
        for number in range(disks):
            source, stops_after = Moody(seed + number, connections), rng.choice([0, 0, 0, 3])
            crew.start(f"disk-{number}", lambda s=source, n=stops_after: read_all(s, budget, n))  # type: ignore[misc]
        ended = threading.Thread(target=crew.join, daemon=True)
        ended.start()
        ended.join(ENDS_WITHIN_S)
        assert not ended.is_alive(), "the disks wait for each other"
        crew.join()
    assert connections.open == 0
    assert connections.most <= max(limit, disks)
    assert all_of(budget) == before


def all_of(budget: Budget) -> tuple[int, int]:
    """The blocks and connections that the budget can give; it has them again afterwards."""
    blocks = []
    while (block := budget.another_block()) is not None:
        blocks.append(block)
    for block in blocks:
        budget.give_back(block)
    connections = budget.connections(1000)
    for _ in range(connections - 1):
        budget.give_back_connection()
    return len(blocks), connections


@pytest.mark.parametrize(("allowed", "most"), [(1, 1), (2, 2), (8, 4)])
def test_no_more_disks_are_copied_at_once_than_there_may_be_connections(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, allowed: int, most: int
) -> None:
    """Streams have one connection each: a pod with six of them bears down on their host with no more than allowed."""
    connections = Connections()
    together = threading.Barrier(most)

    class Stream(StreamSource):
        size_bytes = 1000

        def open_stream(self) -> Iterator[Piece]:
            connections.change(+1)
            together.wait(ENDS_WITHIN_S)  # as many as may be are there
            yield Piece(0, b"data")
            connections.change(-1)

        def close(self) -> None:
            """Nothing is open."""

    monkeypatch.setattr(mover.transfer, "open_source", lambda _disk, _controls: Stream())
    disks = [moving.disk_of("nbd://unused", 1000, tmp_path / f"t{n}", id=str(n)) for n in range(most * 3)]
    spec = msgspec.structs.replace(moving.spec_of(tmp_path / "w", *disks), connections=allowed)
    ran = moving.run(spec)
    assert ran.result.ok, ran.lines
    assert connections.most == most
