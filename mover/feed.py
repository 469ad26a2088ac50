"""Feeds: where the copying threads get filled blocks from, whatever the source's kind.

`RandomFeed` has a lane per connection, each with two threads that take turns: while one hashes and writes the oldest
block, the other reads on, with several requests under way. `StreamFeed` decodes one stream under a lock; while one
thread stores its block another decodes the next.
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, TypeVar

from mover.budget import Budget, Depth
from mover.buffers import ZEROS, block_buffer
from mover.crew import Crew
from mover.geometry import BLOCK_BYTES, BlockWork, Extent, block_extent, gaps
from mover.halt import Halt
from mover.sources.base import Piece, RandomSource, Reader, ReadRequest, Source, StreamSource
from mtv.model.errors import TemporaryError

T = TypeVar("T")
MAX_ATTEMPTS = 6
"""Times a source may fail in a row before the copy gives up (it then ends resumable)."""
_FIRST_PAUSE_S = 0.5
_JITTER = 0.25
"""Share by which a pause is made longer or shorter, so that the disks of many pods do not all come back at once."""
_TURN_S = 0.05
Complain = Callable[[str], None]


class Loaded(NamedTuple):
    """A block in memory. `parts` are where its data is; the rest of `view` is zeros."""

    block: int
    view: memoryview
    parts: tuple[Extent, ...]


class Lane(ABC):
    """A supply of blocks for as many threads as there are `workers`."""

    workers = 1

    @abstractmethod
    def take(self) -> Loaded | None:
        """The next block, or None at the end or when told to stop."""

    @abstractmethod
    def give_back(self, loaded: Loaded) -> None:
        """The block's memory may be used again."""

    def close(self) -> None:  # noqa: B027 - a lane without a connection has nothing to close
        """Give up the lane's connection."""


class Patience:
    """Counts failures in a row and waits ever longer between them."""

    def __init__(self, halt: Halt, complain: Complain, *, first_pause_s: float = _FIRST_PAUSE_S) -> None:
        self._halt = halt
        self._complain = complain
        self._first_pause_s = first_pause_s
        self._failures = 0

    def succeeded(self) -> None:
        """The source answered."""
        self._failures = 0

    def persist(self, attempt: Callable[[], T]) -> T:
        """Call `attempt` until it does not fail for a time; raises what it fails with otherwise, or too often."""
        while True:
            try:
                return attempt()
            except TemporaryError as error:
                self.endure(error)

    def endure(self, error: TemporaryError) -> None:
        """Wait before another try, or raise the error when there were too many or we are told to stop."""
        import random  # here: a source that always answers does not need it

        self._failures += 1
        if self._failures >= MAX_ATTEMPTS or self._halt.is_set():
            raise error
        pause = self._first_pause_s * 2 ** (self._failures - 1) * random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311
        self._complain(f"{error.message}; try {self._failures + 1} of {MAX_ATTEMPTS} in {pause:.1f} s")
        if self._halt.wait(pause):
            raise error


class RandomFeed:
    """Blocks of a source that is read at any offset, in the order given."""

    def __init__(
        self,
        source: RandomSource,
        work: Iterator[BlockWork],
        halt: Halt,
        complain: Complain,
        budget: Budget | None = None,
    ) -> None:
        self.source = source
        self.halt = halt
        self.complain = complain
        self.budget = budget or Budget()
        self._work = work
        self._lock = threading.Lock()
        connections = self.budget.connections(source.connections)
        # Sources without asynchronous reads gain nothing from more than one block per connection.
        more = connections if source.depth > 1 else 0
        self.depth = Depth(connections * source.depth, connections * source.depth + more)
        self._lanes = connections

    def lanes(self) -> list[Lane]:
        """As many as the source bears connections and the budget has left."""
        return [_RandomLane(self, is_first=number == 0) for number in range(self._lanes)]

    def share(self) -> int:
        """How many blocks one lane may have under way, so that none takes what another needs."""
        return -(-self.depth.allowed // self._lanes)

    def next_work(self) -> BlockWork | None:
        """The next block to read, for whichever lane asks first."""
        with self._lock:
            return None if self.halt.is_set() else next(self._work, None)


class _RandomLane(Lane):
    """A connection. One thread at a time waits for it, so that bytes keep coming while another stores a block."""

    workers = 2

    def __init__(self, feed: RandomFeed, *, is_first: bool) -> None:
        self._feed = feed
        self._is_first = is_first
        self._source = feed.source
        self._budget = feed.budget
        self._depth = feed.depth
        self._turn = threading.Lock()
        self._under_way: deque[tuple[BlockWork, ReadRequest]] = deque()
        self._reader: Reader | None = None
        self._patience = Patience(feed.halt, feed.complain)
        self._memory = threading.Lock()
        self._own: memoryview | None = self._budget.first_block()
        self._buffers: dict[int, memoryview] = {}
        self._freed = threading.Event()
        self._closed = False

    def take(self) -> Loaded | None:
        with self._turn:
            while True:
                self._freed.clear()
                ended = self._read_ahead()
                if self._under_way:
                    break
                if ended or self._feed.halt.is_set():
                    return None
                self._freed.wait(_TURN_S)
            while True:
                work, request = self._under_way[0]
                try:
                    self._connected().complete(request)
                except TemporaryError as error:
                    self._start_over(error)
                    continue
                self._patience.succeeded()
                self._under_way.popleft()
                self._depth.end()
                self._depth.arrived(sum(part.length for part in work.parts), time.monotonic())
                return Loaded(work.block, request.view, work.parts)

    def give_back(self, loaded: Loaded) -> None:
        self._release(loaded.block)
        self._freed.set()

    def close(self) -> None:
        self._disconnect()
        for _ in self._under_way:
            self._depth.end()
        self._under_way.clear()
        for block in list(self._buffers):
            self._release(block)
        if not self._closed:
            self._closed = True
            if self._own is not None:
                self._budget.give_back(self._own)
            if not self._is_first:
                self._budget.give_back_connection()

    def _acquire(self) -> memoryview | None:
        with self._memory:
            if self._own is not None:
                buffer, self._own = self._own, None
                return buffer
        return self._budget.another_block()

    def _release(self, block: int) -> None:
        with self._memory:
            self._put_back(self._buffers.pop(block))

    def _put_back(self, buffer: memoryview) -> None:
        if self._own is None:
            self._own = buffer
        else:
            self._budget.give_back(buffer)

    def _read_ahead(self) -> bool:
        """Ask for as many blocks as may be under way; whether there are no more."""
        while len(self._under_way) < self._feed.share() and self._depth.begin():
            buffer = self._acquire()
            work = self._feed.next_work() if buffer is not None else None
            if buffer is None or work is None:
                self._depth.end()
                if buffer is not None:
                    with self._memory:
                        self._put_back(buffer)
                return buffer is not None
            self._budget.may_read(sum(part.length for part in work.parts), self._feed.halt)
            with self._memory:
                self._buffers[work.block] = buffer
            self._ask(work, buffer)
        return False

    def _ask(self, work: BlockWork, buffer: memoryview) -> None:
        whole = block_extent(work.block, self._source.size_bytes)
        for gap in gaps(work.parts, whole):
            start = gap.offset - whole.offset
            buffer[start : start + gap.length] = ZEROS[: gap.length]
        request = ReadRequest(buffer[: whole.length], whole.offset, work.parts)
        self._under_way.append((work, request))
        try:
            if self._reader:
                self._reader.begin(request)
            else:
                self._connected()  # begins all that is under way, this one too
        except TemporaryError as error:
            self._start_over(error)

    def _disconnect(self) -> None:
        if self._reader:
            self._reader.close()
            self._reader = None

    def _connected(self) -> Reader:
        if self._reader is None:
            self._reader = self._source.open_reader()
            for _, request in self._under_way:
                self._reader.begin(request)
        return self._reader

    def _start_over(self, error: TemporaryError) -> None:
        self._disconnect()
        self._depth.complained()
        self._patience.endure(error)


def for_each_block(
    source: Source,
    work: Iterator[BlockWork],
    store: Callable[[Loaded], None],
    crew: Crew,
    *,
    halt: Halt,
    complain: Complain,
    budget: Budget | None = None,
) -> None:
    """Read a source of any kind and call `store` with every block that it has, from several threads of the crew: the
    blocks of `work` where it is read at any offset, all that hold data where it streams. Not all were there if `halt`
    went up. Raises what reading or storing failed with.
    """
    if isinstance(source, RandomSource):
        lanes = RandomFeed(source, work, halt, complain, budget).lanes()
    elif isinstance(source, StreamSource):
        lanes = StreamFeed(source, halt, complain, budget).lanes()
    else:
        raise TypeError(f"{type(source).__name__} is no kind of source that can be copied")
    try:
        run_lanes(lanes, store, crew)
    finally:
        for lane in lanes:
            lane.close()


def run_lanes(lanes: Iterable[Lane], store: Callable[[Loaded], None], crew: Crew) -> None:
    """Store what the lanes supply; returns when all threads of the crew have ended."""

    def drain(lane: Lane) -> None:
        while (loaded := lane.take()) is not None:
            store(loaded)
            lane.give_back(loaded)

    for number, lane in enumerate(lanes):
        for worker in range(lane.workers):
            crew.start(f"block-{number}-{worker}", lambda lane=lane: drain(lane))  # type: ignore[misc]
    crew.join()


class StreamFeed:
    """Blocks of a stream. A stream that breaks is opened again and read from its start."""

    LANES = 2

    def __init__(self, source: StreamSource, halt: Halt, complain: Complain, budget: Budget | None = None) -> None:
        self._source = source
        self._budget = budget or Budget()
        self._halt = halt
        self._patience = Patience(halt, complain)
        self._lock = threading.Lock()
        self._blocks: Iterator[Loaded] | None = None
        self._following = 0
        self._buffer = block_buffer()
        self._ended = False

    def lanes(self) -> list[Lane]:
        """Two: one decodes while the other stores."""
        return [_StreamLane(self) for _ in range(self.LANES)]

    def next_into(self, buffer: memoryview) -> tuple[Loaded, memoryview] | None:
        """The next block that holds data and the memory it is in, which is given in exchange for `buffer`."""
        with self._lock:
            while not self._halt.is_set() and not self._ended:
                try:
                    if self._blocks is None:
                        self._blocks = assemble(self._source.open_stream(), self._source.size_bytes, self._current)
                    loaded = next(self._blocks, None)
                except TemporaryError as error:
                    self._blocks = None
                    self._patience.endure(error)
                    continue
                if loaded is None:
                    self._ended = True
                    break
                if loaded.block < self._following:
                    continue  # seen before the stream broke
                self._patience.succeeded()
                self._budget.may_read(sum(part.length for part in loaded.parts), self._halt)
                self._following = loaded.block + 1
                filled, self._buffer = self._buffer, buffer
                return loaded, filled
        return None

    def _current(self) -> memoryview:
        return self._buffer


def assemble(pieces: Iterator[Piece], size_bytes: int, buffer: Callable[[], memoryview]) -> Iterator[Loaded]:
    """Blocks out of ascending pieces. `buffer()` is the memory to fill; the consumer may change it between blocks."""
    index = -1
    parts: list[Extent] = []
    memory = buffer()

    def finished() -> Loaded:
        whole = block_extent(index, size_bytes)
        for gap in gaps(parts, whole):
            start = gap.offset - whole.offset
            memory[start : start + gap.length] = ZEROS[: gap.length]
        return Loaded(index, memory[: whole.length], tuple(parts))

    for piece in pieces:
        offset, data = piece.offset, memoryview(piece.data)
        while data:
            here, at = divmod(offset, BLOCK_BYTES)
            if here != index:
                if parts:
                    yield finished()
                index, parts, memory = here, [], buffer()
            length = min(len(data), BLOCK_BYTES - at)
            memory[at : at + length] = data[:length]
            if parts and parts[-1].end == offset:
                parts[-1] = Extent(parts[-1].offset, parts[-1].length + length)
            else:
                parts.append(Extent(offset, length))
            offset, data = offset + length, data[length:]
    if parts:
        yield finished()


class _StreamLane(Lane):
    def __init__(self, feed: StreamFeed) -> None:
        self._feed = feed
        self._spare = block_buffer()

    def take(self) -> Loaded | None:
        taken = self._feed.next_into(self._spare)
        if taken is None:
            return None
        loaded, self._spare = taken
        return loaded

    def give_back(self, loaded: Loaded) -> None:
        """The lane's one buffer goes back to the feed with the next `take`."""
