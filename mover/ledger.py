"""Which blocks of a disk are proven. Here alone is the order kept: write → sync target → journal → sync journal."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable

from mover.block_set import BlockSet
from mover.digest import zero_digest
from mover.geometry import BLOCK_BYTES, Extent, block_extent, runs_without
from mover.journal import Journal
from mover.journal_format import DROPPED, PROVEN, VERIFIED, Record, Replayed
from mover.targets.base import Target
from mtv.model.errors import MtvError

CHECKPOINT_BYTES = 64 << 20
CHECKPOINT_S = 10.0
"""A checkpoint is made after so many bytes or seconds, whichever comes first."""
LAST_CHECKPOINT_BYTES = 8 << 20
"""Towards the end checkpoints come closer together, down to so many bytes: what is stored after the last of them is
flushed, and then read back, while nothing else is done any more."""


class Ledger:
    """The digests of a disk's blocks and how far they are proven. Safe from several threads."""

    def __init__(
        self,
        journal: Journal,
        target: Target,
        replayed: Replayed,
        *,
        check_lock: Callable[[], None],
    ) -> None:
        self.digests, self._proven, self._is_verified, _ = replayed
        self._journal = journal
        self._target = target
        self._check_lock = check_lock
        self._lock = threading.Lock()
        self._committing = threading.Lock()
        self._pending: list[tuple[int, bytes]] = []
        self._pending_bytes = 0
        self._bytes_to_come: int | None = None
        self._last_commit = time.monotonic()
        self._flushing = threading.Lock()
        self._flush_failure: MtvError | None = None
        self._failure: BaseException | None = None
        self.on_proven: Callable[[list[int]], None] = lambda _indexes: None
        """Told which blocks have just become durable."""

    def is_proven(self, index: int) -> bool:
        """Whether the block is known to be durable on the target."""
        return bool(self._proven[index])

    def proven(self) -> BlockSet:
        """All blocks that are proven now."""
        return BlockSet(self._proven)

    def expect(self, count: int) -> None:
        """So many bytes of data will be stored from now on. Who does not know (a stream) leaves this out."""
        with self._lock:
            self._bytes_to_come = count

    def stored(self, index: int, digest: bytes, count: int) -> None:
        """A block was written (`count` bytes of it were data); a checkpoint is begun when it is time, and waited for
        only when the copy is a whole checkpoint ahead of it. Raises what an earlier checkpoint failed with.
        """
        with self._lock:
            self._pending.append((index, digest))
            self._pending_bytes += count
            if self._bytes_to_come is not None:
                self._bytes_to_come -= count
            due = self._pending_bytes >= self._due_bytes() or time.monotonic() - self._last_commit >= CHECKPOINT_S
            overdue = self._pending_bytes >= 2 * CHECKPOINT_BYTES
        if self._failure:
            raise self._failure
        if due and self._committing.acquire(blocking=False):
            # In a thread of its own: a copying thread that waits for two syncs leaves its connection idle meanwhile.
            beside = threading.Thread(target=self._commit_beside, name="checkpoint", daemon=True)
            try:
                beside.start()
            except RuntimeError:  # no thread to be had: in this one then
                self._commit_beside()
        elif overdue:
            self.commit()

    def _due_bytes(self) -> int:
        """How many bytes may be stored before the next checkpoint: as many as are left, within bounds; with the last
        block all of them, beside the good-byes to the source.
        """
        left = self._bytes_to_come
        if left is None:
            return CHECKPOINT_BYTES
        return min(max(left, LAST_CHECKPOINT_BYTES), CHECKPOINT_BYTES) if left > 0 else 0

    def zeroed(self, *runs: range) -> None:
        """Runs of blocks are zeros now; durable and journalled on return."""
        self._flush()
        records = self._records_of_zeros(runs)
        with self._committing:
            self._append(records)
        self._set_digests(records)
        self._set_proven(records)

    def complete(self, *, is_verified: bool) -> None:
        """The copy has ended well: holes, which nobody wrote, are journalled too, so that the journal tells a whole
        disk from half a one and the target can be compared with it later. `is_verified`: all of it was read back.
        """
        zeros = self._records_of_zeros(runs_without(self.proven(), self.digests.count))
        if zeros:
            self._flush()
            self._set_digests(zeros)  # some may be those of bytes that were there before
        with self._committing:
            is_news = is_verified and (bool(zeros) or not self._is_verified)
            root = [Record(0, self.digests.count, VERIFIED, bytes.fromhex(self.digests.root()))] if is_news else []
            if zeros or root:
                # In one go, the root last: if the end is torn off, what is left is true.
                self._append([*zeros, *root])
                self._is_verified = is_news
        self._set_proven(zeros)

    def _set_digests(self, records: Iterable[Record]) -> None:
        for record in records:
            for index in range(record.first, record.first + record.blocks):
                self.digests[index] = record.digest

    def _set_proven(self, records: Iterable[Record]) -> None:
        for record in records:
            self._proven[record.first : record.first + record.blocks] = bytes([1]) * record.blocks

    def _records_of_zeros(self, runs: Iterable[range]) -> list[Record]:
        return [record for run in runs for record in self._records_of_run(run)]

    def _records_of_run(self, run: range) -> list[Record]:
        last = self.digests.count - 1
        length = block_extent(last, self.digests.size_bytes).length
        if run.stop - 1 < last or length == BLOCK_BYTES:
            return [Record(run.start, len(run), PROVEN, zero_digest(BLOCK_BYTES))]
        records = [Record(last, 1, PROVEN, zero_digest(length))]
        if len(run) > 1:
            records.insert(0, Record(run.start, len(run) - 1, PROVEN, zero_digest(BLOCK_BYTES)))
        return records

    def commit(self) -> None:
        """Make all that was stored durable and proven now."""
        with self._committing:
            self._commit()
        if self._failure:
            raise self._failure

    def settle(self) -> None:
        """Return when no checkpoint is under way; the journal may be closed then."""
        with self._committing:
            return

    def clear_unproven(self) -> int:
        """Make zeros of what an interrupted attempt left in blocks that are not proven: holes must read as zeros again.
        Returns how many bytes that were.
        """
        cleared = 0
        for run in runs_without(self.proven(), self.digests.count):
            start = block_extent(run.start, self.digests.size_bytes).offset
            end = block_extent(run.stop - 1, self.digests.size_bytes).end
            for area in list(self._target.areas_to_check(Extent(start, end - start))):
                self._target.zero(area)
                cleared += area.length
        return cleared

    def drop(self, indexes: Iterable[int]) -> None:
        """These blocks are no longer proven."""
        dropped = list(indexes)
        with self._committing:
            self._append(Record(index, 1, DROPPED, self.digests[index]) for index in dropped)
        for index in dropped:
            self._proven[index] = False

    def drop_all(self) -> None:
        """No block is proven any more, nor are those that wait for a checkpoint. For when nobody stores any more."""
        self.settle()
        with self._lock:
            self._pending, self._pending_bytes = [], 0
        self.drop(self.proven())

    def _commit_beside(self) -> None:
        try:
            self._commit()
        except BaseException as error:  # noqa: BLE001 - raised in the copying thread that comes by next
            self._failure = error
        finally:
            self._committing.release()

    def _commit(self) -> None:
        with self._lock:
            batch, self._pending = self._pending, []
            self._pending_bytes = 0
            self._last_commit = time.monotonic()
        if not batch:
            return
        self._flush()
        self._append(Record(index, 1, PROVEN, digest) for index, digest in batch)
        for index, digest in batch:
            self.digests[index] = digest
            self._proven[index] = True
        self.on_proven([index for index, _ in batch])

    def _flush(self) -> None:
        # The kernel tells a failed write-back once and then forgets the pages: a later flush that succeeds says
        # nothing of what was written before the failure. So the first failure is the last flush, and they take turns.
        with self._flushing:
            if self._flush_failure:
                raise self._flush_failure
            try:
                self._target.flush()
            except MtvError as error:
                self._flush_failure = error
                raise

    def _append(self, records: Iterable[Record]) -> None:
        # Checked last of all: flushing may take long, and the journal may be a newer mover's by then.
        self._check_lock()
        self._is_verified = False
        self._journal.append(records)
