"""Attacks on the durability claims: what one attempt leaves behind must never be taken for proven by the next.

Where a test copies without read-back (`Verify.OFF`), it is because a read-back would mend what the claim got wrong.
"""

from __future__ import annotations

import gzip
import os
import threading
from pathlib import Path
from typing import Any

import blake3
import pytest

import mover.journal
import mover.ledger
import mover.targets.base
from mover.crew import Crew
from mover.digest import ALGORITHM
from mover.geometry import BLOCK_BYTES, Extent
from mover.halt import Halt
from mover.journal import Journal
from mover.journal_format import PROVEN, Header, Record, find_header
from mover.ledger import Ledger
from mover.targets.base import Target
from mover.targets.file import FileTarget
from mover.worklock import work_lock
from mtv.model.errors import TemporaryError
from mtv.model.transfer import OvaMember, TransferSpec, Verify
from tests.mover import moving
from tests.mover.devices import loop_device
from tests.mover.journals import records_of
from tests.mover.moving import MIB

BLOCK = BLOCK_BYTES
HEADER = Header(identity="d", generation="1", size_bytes=4 * BLOCK, algorithm=ALGORITHM, target="t", epoch=1)


def raw_spec(tmp_path: Path, source: Path, target: Path, *, block: bool = False, epoch: int = 1) -> TransferSpec:
    """A copy without read-back of a raw file."""
    size = source.stat().st_size
    member = OvaMember(path=str(source), offset=0, length=size, format="raw")
    disk = moving.disk_of(member, size, target, block=block)
    return moving.spec_of(tmp_path / "w", disk, verify=Verify.OFF, epoch=epoch)


def gzip_spec(tmp_path: Path, content: bytes, *, verify: Verify) -> TransferSpec:
    """A copy of a stream that holds `content`; stored, so that its length tells nothing of the content."""
    packed = gzip.compress(content, compresslevel=0, mtime=0)
    path = tmp_path / "s.gz"
    if path.exists():
        with path.open("r+b") as file:
            file.write(packed)
    else:
        path.write_bytes(packed)
    member = OvaMember(path=str(path), offset=0, length=len(packed), format="raw", compression="gzip")
    return moving.spec_of(tmp_path / "w", moving.disk_of(member, len(content), tmp_path / "t"), verify=verify)


def noise(length: int, seed: int) -> bytes:
    """Reproducible bytes."""
    return blake3.blake3(str(seed).encode()).digest(length=length)


# -- journal and target, one against the other


def test_a_crash_while_a_distrusted_target_is_made_anew_leaves_no_claim(tmp_path: Path) -> None:
    path = tmp_path / "j"
    journal = Journal.open(path, HEADER, prepare=lambda: None).journal
    journal.append([Record(0, 4, PROVEN, b"d" * 32)])
    journal.close()

    def crash() -> None:
        raise KeyboardInterrupt  # the target is empty and has its full length now; the power goes

    with pytest.raises(KeyboardInterrupt):
        Journal.open(path, HEADER, prepare=crash, distrust="the target was cut")
    Journal.open(path, HEADER, prepare=lambda: None).journal.close()
    assert records_of(path) == []


def test_a_header_is_written_whole_even_if_the_system_writes_in_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = os.pwrite
    monkeypatch.setattr(mover.journal.os, "pwrite", lambda fd, data, at: whole(fd, bytes(data)[:7], at))
    journal = Journal.open(tmp_path / "j", HEADER, prepare=lambda: None).journal
    journal.append([Record(0, 1, PROVEN, b"d" * 32)])
    journal.close()
    Journal.open(tmp_path / "j", HEADER, prepare=lambda: None).journal.close()
    assert records_of(tmp_path / "j") == [Record(0, 1, PROVEN, b"d" * 32)]


def test_after_a_failed_flush_nothing_more_is_claimed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel reports a failed write-back once; a second flush that succeeds proves nothing of what was lost."""
    target = FileTarget(tmp_path / "t", HEADER.size_bytes)
    opened = Journal.open(tmp_path / "j", HEADER, prepare=target.prepare)
    ledger = Ledger(opened.journal, target, opened.replayed, check_lock=lambda: None)
    flush, failures = Target.flush, [TemporaryError("EIO", code="target-io")]

    def fail_once(target: Target) -> None:
        if failures:
            raise failures.pop()
        flush(target)

    monkeypatch.setattr(Target, "flush", fail_once)
    ledger.stored(0, b"a" * 32, BLOCK)
    with pytest.raises(TemporaryError):
        ledger.commit()
    ledger.stored(1, b"b" * 32, BLOCK)
    with pytest.raises(TemporaryError):
        ledger.commit()
    with pytest.raises(TemporaryError):
        ledger.zeroed(range(2, 3))
    opened.journal.close()
    target.close()
    Journal.open(tmp_path / "j", HEADER, prepare=lambda: None).journal.close()
    assert records_of(tmp_path / "j") == []


@pytest.mark.parametrize("new", ["data", "zeros"])
def test_a_proven_block_that_must_be_overwritten_is_no_longer_claimed_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, new: str
) -> None:
    old = noise(BLOCK + 999, 1)
    assert moving.run(gzip_spec(tmp_path, old, verify=Verify.OFF)).result.ok
    changed = noise(BLOCK, 2) + old[BLOCK:] if new == "data" else bytes(BLOCK) + old[BLOCK:]
    write, zero = Target.write, FileTarget.zero

    def write_half(target: Target, data: memoryview, offset: int) -> None:
        write(target, data[:MIB], offset)
        raise TemporaryError("crash", code="target-io")

    def zero_half(target: FileTarget, area: Extent) -> None:
        zero(target, Extent(area.offset, MIB))
        raise TemporaryError("crash", code="target-io")

    with monkeypatch.context() as broken:
        broken.setattr(Target, "write", write_half)
        broken.setattr(FileTarget, "zero", zero_half)
        assert not moving.run(gzip_spec(tmp_path, changed, verify=Verify.OFF)).result.ok
    assert moving.run(gzip_spec(tmp_path, old, verify=Verify.OFF)).result.ok
    assert (tmp_path / "t").read_bytes() == old


def test_blocks_that_a_second_reading_of_a_stream_changes_are_read_back_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = noise(3 * BLOCK, 1)
    second = first[: 2 * BLOCK] + noise(BLOCK, 2)
    spec = gzip_spec(tmp_path, first, verify=Verify.FULL)
    flush, count = Target.flush, [0]

    def flush_and_spoil(target: Target) -> None:
        flush(target)
        count[0] += 1
        with target.path.open("r+b") as file:  # the medium loses a byte of block 0, then one of block 2
            file.seek(0 if count[0] == 1 else 2 * BLOCK + 5)
            byte = file.read(1)[0]
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte ^ 1]))
            os.fsync(file.fileno())
        if count[0] == 1:
            gzip_spec(tmp_path, second, verify=Verify.FULL)

    monkeypatch.setattr(Target, "flush", flush_and_spoil)
    failure = moving.run(spec).result.failure
    assert failure is not None
    assert failure.code == "target-mismatch"


# -- targets that are not what they were


def test_a_file_made_anew_with_the_same_inode_inherits_nothing(tmp_path: Path) -> None:
    source = moving.make_disk(tmp_path / "s", BLOCK + 77, [(0, BLOCK + 77)])
    target = tmp_path / "t"
    spec = raw_spec(tmp_path, source, target)
    assert moving.run(spec).result.ok
    inode = target.stat().st_ino
    target.unlink()
    for number in range(2000):
        fresh = tmp_path / f"fresh-{number}"
        fresh.touch()
        if fresh.stat().st_ino == inode:
            fresh.rename(target)
            break
    else:
        pytest.skip("this filesystem does not use an inode number again at once")
    os.truncate(target, BLOCK + 77)
    assert moving.run(spec).result.ok
    assert moving.same_bytes(source, target, BLOCK + 77)


def test_another_device_in_the_place_of_the_first_inherits_nothing_even_without_read_back(tmp_path: Path) -> None:
    source = moving.make_disk(tmp_path / "s", 3 * BLOCK, [(0, BLOCK), (2 * BLOCK, BLOCK)])
    with loop_device(tmp_path / "back", 3 * BLOCK) as device:
        spec = raw_spec(tmp_path, source, device, block=True)
        assert moving.run(spec).result.ok
        with device.open("r+b") as file:
            file.write(b"\xa5" * (3 * BLOCK))
        again = moving.run(spec)
        assert again.result.ok
        assert moving.same_bytes(source, device, 3 * BLOCK)


def test_what_an_interrupted_attempt_left_in_unproven_blocks_does_not_survive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = moving.make_disk(tmp_path / "s", 3 * BLOCK, [(0, MIB), (2 * BLOCK, MIB)])
    target = tmp_path / "t"
    with monkeypatch.context() as broken:

        def scribble(target: Target, _data: memoryview, _offset: int) -> None:
            with target.path.open("r+b") as file:
                for offset in (2 * MIB, BLOCK + 5, 2 * BLOCK + 3 * MIB):  # where the source has holes
                    file.seek(offset)
                    file.write(b"left behind")
            raise TemporaryError("crash", code="target-io")

        broken.setattr(Target, "write", scribble)
        assert not moving.run(raw_spec(tmp_path, source, target)).result.ok
    assert moving.run(raw_spec(tmp_path, source, target)).result.ok
    assert moving.same_bytes(source, target, 3 * BLOCK)


# -- the lock


def test_a_mover_fenced_off_while_it_writes_zeros_stops_within_one_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = 16 * BLOCK
    source = moving.make_disk(tmp_path / "s", size, [])
    written: list[int] = []
    write_all = mover.targets.base.write_all

    with loop_device(tmp_path / "back", size) as device:
        spec = raw_spec(tmp_path, source, device, block=True)

        def write_and_lose_the_lock(fd: int, data: memoryview, offset: int) -> None:
            write_all(fd, data, offset)
            if len(data) and not written:
                with work_lock(tmp_path / "w", 2, takeover_wait_s=0):
                    pass
            if len(data):
                written.append(offset)

        monkeypatch.setattr(mover.targets.base, "write_all", write_and_lose_the_lock)
        monkeypatch.setattr(mover.targets.base._libc, "fallocate", lambda *_arguments: -1)
        failure = moving.run(spec).result.failure
    assert failure is not None
    assert failure.code == "volume-held"
    assert len(written) == 1


def test_a_target_is_not_even_prepared_without_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = moving.make_disk(tmp_path / "s", BLOCK, [(0, BLOCK)])
    (tmp_path / "t").write_bytes(b"of a newer mover")

    def read_slowly(fd: int) -> Any:  # frozen here, in the middle of opening the journal
        with work_lock(tmp_path / "w", 2, takeover_wait_s=0):
            pass
        return find_header(fd)

    monkeypatch.setattr(mover.journal, "find_header", read_slowly)
    failure = moving.run(raw_spec(tmp_path, source, tmp_path / "t")).result.failure
    assert failure is not None
    assert failure.code == "volume-held"
    assert (tmp_path / "t").read_bytes() == b"of a newer mover"


# -- threads


def test_a_thread_that_cannot_start_stops_the_others_before_the_files_are_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    halt = Halt()
    crew = Crew(halt)
    ended = threading.Event()

    def work() -> None:
        while not halt.wait(0.05):
            pass
        ended.set()

    crew.start("one", work)

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("no thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    crew.start("two", work)
    with pytest.raises(RuntimeError, match="no thread"):
        crew.join()
    assert ended.is_set()


def test_a_checkpoint_is_made_even_if_no_thread_can_be_had_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mover.ledger, "CHECKPOINT_BYTES", 1)
    target = FileTarget(tmp_path / "t", HEADER.size_bytes)
    opened = Journal.open(tmp_path / "j", HEADER, prepare=target.prepare)
    ledger = Ledger(opened.journal, target, opened.replayed, check_lock=lambda: None)

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    ledger.stored(0, b"a" * 32, BLOCK)
    ledger.settle()
    assert list(ledger.proven()) == [0]
    opened.journal.close()
    target.close()
