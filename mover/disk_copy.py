"""The copy of one disk, from an open source to an open target, proven and resumable.

    feed lanes ──▶ hash ──▶ write ──▶ ledger (sync, journal) ──▶ read-back ──▶ root digest
    (two or more threads per disk)      every 64 MiB or 10 s      beside the copy

What the read-back finds wrong is copied once more; what is wrong again ends the copy with its offset and both digests.
On demand the source is then read a second time: where it differs from the first, a third read must agree with one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Container, Iterator
from pathlib import Path

from mover.beginning import begin
from mover.budget import Budget
from mover.buffers import PAGE_BYTES
from mover.content_checksum import check_content, hasher_of
from mover.crew import Crew
from mover.digest import block_digest, zero_digest
from mover.failure import SourceUnstable, stopped
from mover.feed import Loaded, Patience, for_each_block
from mover.geometry import BlockWork, Extent, aligned_outwards, block_extent, cut_into_blocks, runs_of, runs_without
from mover.halt import Halt
from mover.progress import DiskMeter
from mover.proof import mismatch_error, proof_of, unread_blocks
from mover.readback import Mismatch, ReadBack, first_difference
from mover.source_check import compare_with_source, fetch_checksum
from mover.sources.base import RandomSource, Source, StreamSource
from mover.targets.base import Target
from mover.worklock import WorkLock
from mover.zero_scan import nonzero_parts
from mtv.model.errors import MtvError, PermanentError
from mtv.model.transfer import DiskResult, DiskTransfer, Verify

_ZERO_STEP_BLOCKS = 256
"""Zeros are made 1 GiB at a time, so that the lock is looked at in between."""

_TOLD_MISMATCHES = 10


class DiskCopy:
    """One disk on its way. `say` is told what a person should know; `halt` stops the copy at the next block."""

    def __init__(
        self,
        disk: DiskTransfer,
        source: Source,
        target: Target,
        *,
        journal_path: Path,
        lock: WorkLock,
        verify: Verify,
        meter: DiskMeter,
        say: Callable[[str], None],
        halt: Halt,
        budget: Budget | None = None,
        verify_source: bool = False,
    ) -> None:
        if source.size_bytes != disk.size_bytes:
            raise PermanentError(
                f"the source of disk {disk.id} has {source.size_bytes} bytes, the plan expects {disk.size_bytes}",
                cure="read the inventory again: the disk was resized, or another one is meant",
                code="source-size",
            )
        if source.content_checksum:
            hasher_of(source.content_checksum)  # better refused now than after hours
        self.disk = disk
        self.source = source
        self.target = target
        self.lock = lock
        self.verify = verify
        self.verify_source = verify_source
        self.meter = meter
        self.say = say
        self.halt = Halt(halt)
        self.budget = budget or Budget()
        begun = begin(disk, source, target, journal_path, lock, say, Patience(self.halt, say))
        self.journal, self.ledger = begun.journal, begun.ledger
        self.resumed, self.carried = begun.resumed, begun.carried
        self.has_data = bytearray(self.ledger.digests.count)
        self.extents: list[Extent] = []
        self.bytes_read = 0
        self.bytes_data = 0
        self.source_digest = ""
        self.source_is_damaged = False
        self.differences: dict[int, int] = {}
        self._count_lock = threading.Lock()

    def run(self) -> DiskResult:
        """Copy, prove, and say what was done. Raises an `MtvError`; what was proven until then is in the journal."""
        began = time.monotonic()
        try:
            mismatches = self._first_pass()
            if mismatches:
                self._second_pass(mismatches)
            if self.verify_source:
                self._read_source_again()
            if self.source.content_checksum:  # of what the second read has left
                self._check_content()
            if self.source.block_checksum and self.verify is not Verify.OFF:
                self.source_digest = compare_with_source(
                    self.disk.id, self.source.block_checksum, self.ledger, self.target, self.halt
                )
                self._stop_if_told()
            self.ledger.complete(is_verified=self.verify is Verify.FULL)
        except BaseException:
            self._checkpoint_after_failure()
            raise
        finally:
            self.ledger.settle()
            self.journal.close()
        self.meter.enter("done", total=self.disk.size_bytes, done=self.disk.size_bytes)
        return DiskResult(
            id=self.disk.id,
            size_bytes=self.disk.size_bytes,
            bytes_data=self.bytes_data,
            bytes_read=self.bytes_read,
            bytes_resumed=self._data_bytes(self.resumed),
            digest=self.ledger.digests.root(),
            proof=proof_of(self.verify, self.source_digest, reread=self.verify_source),
            source_digest=self.source_digest,
            verify=self.verify,
            reread=self.verify_source,
            seconds=round(time.monotonic() - began, 3),
        )

    # -- passes

    def _first_pass(self) -> list[Mismatch]:
        self._learn_extents()
        self._enter_copy()
        crew = Crew(self.halt)
        if self.source.has_own_checksum:
            crew.start("source-checksum", self._check_source)
        if (checksum := self.source.block_checksum) and self.verify is not Verify.OFF:
            crew.start("source-checksum", lambda: fetch_checksum(checksum, self.halt, self.say))
        read_back = self._start_read_back()
        self.ledger.on_proven = read_back.hand_in
        wanted = (block for block in cut_into_blocks(self.extents) if not self.ledger.is_proven(block.block))
        if isinstance(self.source, RandomSource):
            self.ledger.expect(self.bytes_data - self._data_bytes(self.resumed))
        try:
            self._copy(crew, wanted, whole=False)
            self._zero_the_rest()
            if self.verify is not Verify.OFF:
                digests = self.ledger.digests
                read_back.hand_in(unread_blocks(self.target, digests, self.resumed, self._was_read_back))
            if self.verify is not Verify.FULL and not self.target.is_recognizable:
                # It may be another one than that which an earlier attempt wrote.
                read_back.hand_in(self.resumed, always=True)
            self.meter.enter("verify", total=read_back.bytes_handed_in, done=read_back.bytes_checked)
        finally:
            mismatches = read_back.finish()
        self._stop_if_told()
        return mismatches

    def _learn_extents(self) -> None:
        if isinstance(self.source, RandomSource):
            self.extents = Patience(self.halt, self.say).persist(self.source.extents)
            self.bytes_data = sum(extent.length for extent in self.extents)
            self.has_data = bytearray(self.ledger.digests.count)
            for block in cut_into_blocks(self.extents):
                self.has_data[block.block] = True

    def _second_pass(self, mismatches: list[Mismatch]) -> None:
        for mismatch in mismatches[:_TOLD_MISMATCHES]:
            self.say(
                f"block at {block_extent(mismatch.block, self.disk.size_bytes).offset} reads back wrong: expected "
                f"{mismatch.expected.hex()}, found {mismatch.found.hex()}"
            )
        wrong = [mismatch.block for mismatch in mismatches]
        self.say(f"{len(wrong)} blocks read back wrong are copied once more")
        self._copy_again(wrong)

    def _copy_again(self, wrong: list[int], *, alone: bool = False) -> None:
        """Read these blocks from the source and write them whole; what then reads back wrong ends the copy.

        A stream gives the others, too: they are stored where they changed, or with `alone` left as they are.
        """
        self.ledger.drop(wrong)
        stored = set[int]()
        self.ledger.on_proven = stored.update
        chosen = set(wrong)
        wanted = (block for block in cut_into_blocks(self.extents) if block.block in chosen)
        if isinstance(self.source, RandomSource):
            self.ledger.expect(self._data_bytes(chosen))
        self._copy(Crew(self.halt), wanted, whole=True, only=chosen if alone else None)
        for index in sorted(chosen - stored):  # the source has no data for them, or none any more
            self._zero(range(index, index + 1))
        read_back = self._start_read_back()
        read_back.hand_in(sorted(stored | chosen), always=True)
        still_wrong = read_back.finish()
        self._stop_if_told()
        if still_wrong:
            self.ledger.drop(mismatch.block for mismatch in still_wrong)
            first_wrong = self.differences.get(block_extent(still_wrong[0].block, self.disk.size_bytes).offset)
            raise mismatch_error(self.disk.id, self.target, still_wrong[0], first_wrong)

    def _read_source_again(self) -> None:
        """Compare the source with what was copied; where they differ, a third read decides between the two."""
        from mover.measure import read_digests  # here: few ask for a second read

        self.source.forget()
        self._learn_extents()
        self.meter.enter("reread", total=self.bytes_data)
        second = read_digests(
            self.source, self.extents, self.halt, complain=self.say, count=self.meter.add, budget=self.budget
        )
        self._stop_if_told()
        first = {index: self.ledger.digests[index] for index in range(second.count)}
        differing = [index for index, digest in first.items() if digest != second[index]]
        if not differing:
            return
        self.say(f"a second read of the source differs in {len(differing)} blocks: they are read a third time")
        self.source.forget()
        self._learn_extents()  # where data is is part of what is read
        self._copy_again(differing, alone=True)  # of all others two reads have agreed
        undecided = [i for i in differing if self.ledger.digests[i] not in (first[i], second[i])]
        if undecided:
            third = [self.ledger.digests[index] for index in undecided]
            self.ledger.drop(undecided)
            where = block_extent(undecided[0], self.disk.size_bytes)
            raise SourceUnstable(
                f"disk {self.disk.id}: three reads of the source's block at {where.offset} ({where.length} bytes) give"
                f" {first[undecided[0]].hex()}, {second[undecided[0]].hex()}, {third[0].hex()}",
                offset=where.offset,
            )

    def _copy(
        self, crew: Crew, wanted: Iterator[BlockWork], *, whole: bool, only: Container[int] | None = None
    ) -> None:
        def store(loaded: Loaded) -> None:
            if only is None or loaded.block in only:
                self._store(loaded, whole=whole)

        for_each_block(self.source, wanted, store, crew, halt=self.halt, complain=self.say, budget=self.budget)
        self._stop_if_told()
        self.ledger.commit()

    # -- one block

    def _store(self, loaded: Loaded, *, whole: bool) -> None:
        digest = block_digest(loaded.view)
        if self.source.block_checksum:
            self.source.block_checksum.note(loaded.block, loaded.view)
        count = sum(part.length for part in loaded.parts)
        where = block_extent(loaded.block, self.disk.size_bytes)
        with self._count_lock:
            self.bytes_read += count
            if not self.has_data[loaded.block]:  # a stream tells only now
                self.has_data[loaded.block] = True
                self.bytes_data += count
        known = self.ledger.is_proven(loaded.block)
        if not (known and digest == self.ledger.digests[loaded.block]):
            if known:
                self.ledger.drop([loaded.block])  # before the first byte of it changes
            self._write(loaded, where, digest, whole=whole or known)
            self.ledger.stored(loaded.block, digest, count)
        if isinstance(self.source, StreamSource):
            self.meter.reach(where.end)
        else:
            self.meter.add(count)

    def _write(self, loaded: Loaded, where: Extent, digest: bytes, *, whole: bool) -> None:
        sparse = self.target.holes_are_zeros and not whole
        if whole:
            self._say_where_it_differs(loaded.view, where)
        if digest == zero_digest(where.length):
            if not sparse:
                self.target.zero(where)
        elif not sparse:
            self.target.write(loaded.view, where.offset)
        else:
            parts = nonzero_parts(loaded.view, where.offset, loaded.parts)
            for part in aligned_outwards(parts, where, PAGE_BYTES):
                start = part.offset - where.offset
                self.target.write(loaded.view[start : start + part.length], part.offset)

    def _say_where_it_differs(self, wanted: memoryview, where: Extent) -> None:
        offset = first_difference(self.target, wanted, where)
        if offset is not None:
            self.differences[where.offset] = offset
            if len(self.differences) <= _TOLD_MISMATCHES:
                self.say(f"the target differs from the source at byte {offset}")

    # -- zeros

    def _zero_the_rest(self) -> None:
        """What the source has no data for: zeros are made where they are not known to be, and journalled."""
        for run in runs_without((index for index, flag in enumerate(self.has_data) if flag), len(self.has_data)):
            # A block proven with data that is now a hole (a stream that changed) must become zeros on files too.
            pending = [
                index
                for index in run
                if (not self.target.holes_are_zeros and not self.ledger.is_proven(index))
                or (self.ledger.is_proven(index) and not self.ledger.digests.is_zero(index))
            ]
            if proven := [index for index in pending if self.ledger.is_proven(index)]:
                self.ledger.drop(proven)
                self.carried = self.carried.without(proven)
            for piece in runs_of(pending):
                for start in range(piece.start, piece.stop, _ZERO_STEP_BLOCKS):
                    self._stop_if_told()
                    self._zero(range(start, min(start + _ZERO_STEP_BLOCKS, piece.stop)))

    def _zero(self, run: range) -> None:
        first, last = block_extent(run.start, self.disk.size_bytes), block_extent(run.stop - 1, self.disk.size_bytes)
        self.target.zero(Extent(first.offset, last.end - first.offset))
        self.ledger.zeroed(run)
        if checksum := self.source.block_checksum:
            for index in run:
                checksum.note_zeros(index)

    # -- proof

    def _start_read_back(self) -> ReadBack:
        threads = self.budget.read_back_threads
        read_back = ReadBack(self.target, self.ledger.digests, self.verify, self.halt, self.meter, threads=threads)
        read_back.start()
        return read_back

    def _was_read_back(self, index: int) -> bool:
        """Whether the base's copy has read this block back, surely from this target, and nothing changed it since."""
        return self.target.is_recognizable and self.carried.is_verified and index in self.carried.blocks

    def _data_bytes(self, chosen: Collection[int]) -> int:
        """Bytes of the data blocks among those chosen; parts are counted where the source told them beforehand."""
        if self.extents:
            return sum(
                part.length for block in cut_into_blocks(self.extents) if block.block in chosen for part in block.parts
            )
        return sum(block_extent(index, self.disk.size_bytes).length for index in chosen if self.has_data[index])

    def _check_source(self) -> None:
        try:
            self.source_digest = self.source.check_own_checksum(self.halt.is_set)
        except PermanentError as error:
            self.source_is_damaged = error.code == "source-checksum"
            raise

    def _check_content(self) -> None:
        if self.verify is Verify.OFF:
            self.say("the source's checksum is not compared: nothing is read back")
            return
        checksum = self.source.content_checksum
        self.source_digest = check_content(self.target, self.ledger, checksum, self.halt, self.meter)
        self._stop_if_told()

    # -- beginning and end

    def _enter_copy(self) -> None:
        if isinstance(self.source, StreamSource):
            self.meter.enter("copy", total=self.disk.size_bytes)
        else:
            self.meter.enter("copy", total=self.bytes_data, done=self._data_bytes(self.resumed))

    def _stop_if_told(self) -> None:
        if self.halt.is_set():
            raise stopped(f"disk {self.disk.id}")

    def _checkpoint_after_failure(self) -> None:
        try:
            self.lock.check()
            if self.source_is_damaged:  # and mended, it may look like the one that these blocks were read from
                self.ledger.drop_all()
            else:
                self.ledger.commit()
        except MtvError as error:
            self.say(f"no checkpoint at the end: {error.message}")
