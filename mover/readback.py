"""Reads the target back from the medium and compares it, block by block, with what was read from the source."""

from __future__ import annotations

import queue
from collections.abc import Iterable
from typing import NamedTuple

from blake3 import blake3

from mover.buffers import HUGE_PAGE_BYTES, PAGE_BYTES, block_buffer, buffer_of
from mover.crew import Crew
from mover.digest import BlockDigests
from mover.geometry import Extent, block_extent
from mover.halt import Halt
from mover.progress import DiskMeter
from mover.targets.base import Target
from mtv.model.transfer import Verify

SAMPLE_EVERY = 16
"""Verify.SAMPLED reads back one block in so many, and the first and the last."""

STEP_BYTES = HUGE_PAGE_BYTES
"""Read at once; several threads then cost little memory."""


class Mismatch(NamedTuple):
    """A block whose bytes on the target are not those that were read from the source."""

    block: int
    expected: bytes
    found: bytes


class ReadBack:
    """Runs beside the copy: blocks are handed in as soon as they are durable. Each thread holds `STEP_BYTES`."""

    def __init__(
        self,
        target: Target,
        digests: BlockDigests,
        verify: Verify,
        halt: Halt,
        meter: DiskMeter,
        *,
        threads: int,
    ) -> None:
        self._target = target
        self._digests = digests
        self._verify = verify
        self._halt = halt
        self._meter = meter
        self._queue: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._crew = Crew(halt)
        self._threads = threads
        self.mismatches: list[Mismatch] = []
        self.bytes_checked = 0
        self.bytes_handed_in = 0

    def start(self) -> None:
        """Begin to work off what is handed in."""
        for number in range(self._threads):
            self._crew.start(f"read-back-{number}", self._work)

    def wants(self, index: int) -> bool:
        """Whether this block is among those that are read back."""
        if self._verify is Verify.SAMPLED:
            return index % SAMPLE_EVERY == 0 or index == self._digests.count - 1
        return self._verify is Verify.FULL

    def hand_in(self, indexes: Iterable[int], *, always: bool = False) -> None:
        """These blocks are durable: read them back, as many as the mode wants or all of them."""
        for index in indexes:
            if always or self.wants(index):
                self.bytes_handed_in += block_extent(index, self._digests.size_bytes).length
                self._queue.put(index)

    def finish(self) -> list[Mismatch]:
        """Wait until all is read back; the mismatches in order of their offsets."""
        for _ in range(self._threads):
            self._queue.put(None)
        self._crew.join()
        return sorted(self.mismatches)

    def _work(self) -> None:
        buffer = buffer_of(STEP_BYTES)
        while (index := self._queue.get()) is not None:
            if self._halt.is_set():
                continue
            where = block_extent(index, self._digests.size_bytes)
            hasher = blake3()
            for offset in range(where.offset, where.end, STEP_BYTES):
                length = min(STEP_BYTES, where.end - offset)
                self._target.read(buffer, offset, length)
                hasher.update(buffer[:length])
            found = hasher.digest()
            if found != self._digests[index]:
                self.mismatches.append(Mismatch(index, self._digests[index], found))
            self.bytes_checked += where.length
            self._meter.add_checked(where.length)


def first_difference(target: Target, wanted: memoryview, where: Extent) -> int | None:
    """Offset on the disk of the first byte of `where` that is not as `wanted`, read from the medium; None: all are."""
    found = block_buffer()
    target.read(found, where.offset, where.length)
    for start in range(0, where.length, PAGE_BYTES):
        end = min(start + PAGE_BYTES, where.length)
        ours, theirs = bytes(wanted[start:end]), bytes(found[start:end])
        if ours != theirs:
            differs = (i for i, pair in enumerate(zip(ours, theirs, strict=True)) if pair[0] != pair[1])
            return where.offset + start + next(differs)
    return None
