"""What the disks of one pod share: memory for blocks under way, connections to sources, bandwidth.

Every disk always gets one connection and one block per lane, so none starves; what is beyond that goes to whoever asks
first and comes back with every block.
"""

from __future__ import annotations

import threading

from mover.buffers import block_buffer
from mover.flow import TokenBucket
from mover.halt import Halt

FIRST_DISK_BLOCKS = 6
"""24 MiB for one disk: two lanes with three blocks each."""
FURTHER_DISK_BLOCKS = 3
"""12 MiB for every further disk that is copied at the same time."""


class Budget:
    """Shared by all disks of a transfer; safe from several threads."""

    def __init__(self, *, disks_at_once: int = 1, connections: int = 8, bucket: TokenBucket | None = None) -> None:
        self._lock = threading.Lock()
        self._blocks_left = FIRST_DISK_BLOCKS + FURTHER_DISK_BLOCKS * (disks_at_once - 1)
        # One is kept for every disk, or the first would take what the last then has to have beyond the limit.
        self._further_connections = max(connections - disks_at_once, 0)
        self._spare: list[memoryview] = []
        self._bucket = bucket or TokenBucket()
        self.read_back_threads = 2 if disks_at_once == 1 else 1
        """Of each disk. Each holds 2 MiB; disks that are read back side by side keep the medium busy with fewer."""

    def first_block(self) -> memoryview:
        """The memory that a lane cannot do without; given even if that overdraws the budget."""
        with self._lock:
            self._blocks_left -= 1
            return self._spare.pop() if self._spare else block_buffer()

    def another_block(self) -> memoryview | None:
        """Memory for one more block under way, if there is some left."""
        with self._lock:
            if self._blocks_left <= 0:
                return None
            self._blocks_left -= 1
            return self._spare.pop() if self._spare else block_buffer()

    def give_back(self, block: memoryview) -> None:
        """A lane no longer needs this memory."""
        with self._lock:
            self._blocks_left += 1
            if self._blocks_left > 0:
                self._spare.append(block)
                del self._spare[FIRST_DISK_BLOCKS:]

    def connections(self, wanted: int) -> int:
        """How many connections a disk gets of those that it could use: the one that is its own, and further ones, which
        are given back when done.
        """
        with self._lock:
            further = min(wanted - 1, self._further_connections)
            self._further_connections -= further
            return 1 + further

    def give_back_connection(self) -> None:
        """One that was not the disk's own is closed for good."""
        with self._lock:
            self._further_connections += 1

    def may_read(self, count: int, halt: Halt) -> None:
        """Return when the bandwidth limit lets `count` bytes through, or when told to stop."""
        self._bucket.take(count, halt)


class Depth:
    """How many blocks of a disk may be under way (asked for and not here yet): climbs by one while that makes it
    faster, halves when the source complains (5xx, NFC limits, timeouts) and climbs again from there. Safe from several
    threads.
    """

    ROUND_BLOCKS = 16
    """A rate is judged after so many blocks."""
    _GAIN = 1.05

    def __init__(self, start: int, highest: int) -> None:
        self.allowed = start
        self.under_way = 0
        self._highest = highest
        self._ceiling = highest
        self._lock = threading.Lock()
        self._best_rate = 0.0
        self._tried_more = False
        self._begin_round(None)

    def begin(self) -> bool:
        """Whether one more block may be asked for; it then counts as under way."""
        with self._lock:
            if self.under_way >= self.allowed:
                return False
            self.under_way += 1
            return True

    def end(self) -> None:
        """A block has come in, or was given up."""
        with self._lock:
            self.under_way -= 1

    def arrived(self, count: int, now_s: float) -> None:
        """A block with `count` bytes of data has come in."""
        with self._lock:
            if self._began_s is None:
                self._begin_round(now_s)
                return
            self._blocks += 1
            self._bytes += count
            if self._blocks >= self.ROUND_BLOCKS and now_s > self._began_s:
                self._judge(self._bytes / (now_s - self._began_s))
                self._begin_round(now_s)

    def complained(self) -> None:
        """The source failed or was too slow: ask for half as much, and find the best anew."""
        with self._lock:
            self.allowed = max(1, self.allowed // 2)
            self._ceiling = self._highest
            self._best_rate, self._tried_more = 0.0, False
            self._begin_round(None)

    def _begin_round(self, now_s: float | None) -> None:
        self._blocks, self._bytes, self._began_s = 0, 0, now_s

    def _judge(self, rate: float) -> None:
        if self._tried_more and rate < self._best_rate * self._GAIN:
            self.allowed -= 1  # one more did not help
            self._ceiling = self.allowed
            self._tried_more = False
            return
        self._best_rate = max(self._best_rate, rate)
        self._tried_more = self.allowed < self._ceiling
        if self._tried_more:
            self.allowed += 1
