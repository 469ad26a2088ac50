"""Interruptions: whatever ends a copy, the next one reads only what was not proven, and an older one never writes."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import msgspec
import pytest

from mover.geometry import BLOCK_BYTES, Extent
from mover.journal_format import RECORD_BYTES
from mover.sources.nbd import NbdSource
from mover.worklock import LOCK_NAME
from mtv.model.errors import TemporaryError
from mtv.model.transfer import TransferResult
from tests.mover import moving
from tests.mover.moving import MIB

BLOCKS = 64
SIZE = BLOCKS * BLOCK_BYTES


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return moving.make_disk(tmp_path_factory.mktemp("source") / "s", SIZE, [(0, SIZE)])


def journal_blocks(work: Path) -> set[int]:
    """The blocks that a journal proves, read the way the documentation says."""
    raw = (work / "journal-0.bin").read_bytes() if (work / "journal-0.bin").exists() else b""
    if len(raw) < 12:
        return set()
    start = 12 + int.from_bytes(raw[8:12], "little") + 4
    return {
        int.from_bytes(raw[at : at + 8], "little") for at in range(start, len(raw) - RECORD_BYTES + 1, RECORD_BYTES)
    }


def interrupt(tmp_path: Path, source: Path, number: int, *, epoch: int = 1) -> tuple[int, str]:
    """Copy slowly, interrupt when the first blocks are proven; the exit code and what was said."""
    log = tmp_path / f"log-{epoch}"
    with moving.nbdkit(tmp_path, "--filter=log", "file", str(source), f"logfile={log}", name=f"slow-{epoch}") as uri:
        spec = moving.spec_of(tmp_path / "w", moving.disk_of(uri, SIZE, tmp_path / "t"), epoch=epoch)
        before = len(journal_blocks(tmp_path / "w"))
        with moving.running_mover(tmp_path, spec, *moving.MUCH_LEFT) as mover:
            moving.wait_for(lambda: len(journal_blocks(tmp_path / "w")) > before, "a checkpoint")
            mover.send_signal(number)
            said, _ = mover.communicate(timeout=300)
    return mover.returncode, said


def resume(tmp_path: Path, source: Path, *, epoch: int = 1) -> tuple[TransferResult, set[int], moving.Ran]:
    """Finish the copy; also the blocks that the server saw being read."""
    log = tmp_path / "log-resume"
    with moving.nbdkit(tmp_path, "--filter=log", "file", str(source), f"logfile={log}") as uri:
        ran = moving.run(moving.spec_of(tmp_path / "w", moving.disk_of(uri, SIZE, tmp_path / "t"), epoch=epoch))
    return ran.result, {offset // BLOCK_BYTES for offset, _ in moving.reads_in(log)}, ran


def test_after_kill_9_only_what_was_not_proven_is_read_again(tmp_path: Path, source: Path) -> None:
    code, _ = interrupt(tmp_path, source, signal.SIGKILL)
    assert code == -signal.SIGKILL
    proven = journal_blocks(tmp_path / "w")
    assert 0 < len(proven) < BLOCKS
    with (tmp_path / "w" / "journal-0.bin").open("ab") as file:
        file.write(b"torn")
    result, read, _ = resume(tmp_path, source)
    assert result.ok
    assert read == set(range(BLOCKS)) - proven
    assert result.disks[0].bytes_resumed == len(proven) * BLOCK_BYTES
    assert result.disks[0].bytes_read == (BLOCKS - len(proven)) * BLOCK_BYTES
    assert moving.same_bytes(source, tmp_path / "t", SIZE)


def test_sigterm_makes_a_checkpoint_and_says_that_a_retry_helps(tmp_path: Path, source: Path) -> None:
    code, said = interrupt(tmp_path, source, signal.SIGTERM)
    assert code == 11
    last = msgspec.json.decode(said.splitlines()[-1])
    assert (last["event"], last["failure"]["code"], last["failure"]["retryable"]) == ("result", "interrupted", True)
    proven = journal_blocks(tmp_path / "w")
    stored = {offset // BLOCK_BYTES for offset, _ in moving.reads_in(tmp_path / "log-1")}
    assert len(proven) > 16  # more than the one periodic checkpoint
    result, read, _ = resume(tmp_path, source)
    assert result.ok
    assert read == set(range(BLOCKS)) - proven
    assert proven <= stored
    assert moving.same_bytes(source, tmp_path / "t", SIZE)


def test_several_kills_in_a_row_still_end_well(tmp_path: Path, source: Path) -> None:
    for epoch in (1, 2, 3):
        interrupt(tmp_path, source, signal.SIGKILL, epoch=epoch)
    proven = journal_blocks(tmp_path / "w")
    result, read, _ = resume(tmp_path, source, epoch=4)
    assert result.ok
    assert read == set(range(BLOCKS)) - proven
    assert moving.same_bytes(source, tmp_path / "t", SIZE)


def test_blocks_proven_earlier_are_read_back_again_at_the_end(tmp_path: Path, source: Path) -> None:
    interrupt(tmp_path, source, signal.SIGKILL)
    block = min(journal_blocks(tmp_path / "w"))
    with (tmp_path / "t").open("r+b") as file:
        file.seek(block * BLOCK_BYTES + 77)
        file.write(b"\x00\x01\x02")
    result, read, ran = resume(tmp_path, source)
    assert result.ok
    assert block in read
    assert ran.said(f"the target differs from the source at byte {block * BLOCK_BYTES + 77}")
    assert moving.same_bytes(source, tmp_path / "t", SIZE)


def test_a_target_made_anew_does_not_inherit_the_journal(tmp_path: Path, source: Path) -> None:
    interrupt(tmp_path, source, signal.SIGKILL)
    (tmp_path / "t").rename(tmp_path / "old")
    result, read, ran = resume(tmp_path, source)
    assert result.ok
    assert read == set(range(BLOCKS))
    assert ran.said("not resumed")
    assert moving.same_bytes(source, tmp_path / "t", SIZE)


def test_a_target_that_was_cut_short_does_not_resume(tmp_path: Path, source: Path) -> None:
    interrupt(tmp_path, source, signal.SIGKILL)
    with (tmp_path / "t").open("r+b") as file:
        file.truncate(SIZE // 2)
    result, read, ran = resume(tmp_path, source)
    assert result.ok
    assert read == set(range(BLOCKS))
    assert ran.said("cut or made anew")


def test_another_generation_starts_from_zero_and_says_so(tmp_path: Path) -> None:
    size = 4 * BLOCK_BYTES
    old = moving.make_disk(tmp_path / "old", size, [(0, size)], seed=1)
    new = moving.make_disk(tmp_path / "new", size, [(0, MIB)], seed=2)
    for path, generation in ((old, "1"), (new, "2")):
        with moving.nbdkit(tmp_path, "file", str(path)) as uri:
            disk = moving.disk_of(uri, size, tmp_path / "t", generation=generation)
            ran = moving.run(moving.spec_of(tmp_path / "w", disk))
        assert ran.result.ok
        assert ran.result.disks[0].bytes_resumed == 0
    assert ran.said("another generation")
    assert moving.same_bytes(new, tmp_path / "t", size)


def test_a_server_that_cannot_tell_its_extents_for_a_moment_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moving.hurry(monkeypatch)
    source = moving.make_disk(tmp_path / "s", 4 * MIB, [(MIB, 5000)])
    extents, failing = NbdSource.extents, iter([True, True])

    def fail_twice(asked: NbdSource) -> list[Extent]:
        if next(failing, False):
            raise TemporaryError("no answer", code="source-lost")
        return extents(asked)

    monkeypatch.setattr(NbdSource, "extents", fail_twice)
    with moving.nbdkit(tmp_path, "file", str(source)) as uri:
        ran = moving.run(moving.spec_of(tmp_path / "w", moving.disk_of(uri, 4 * MIB, tmp_path / "t")))
    assert ran.result.ok, ran.lines
    assert ran.said("try 3 of")
    assert moving.same_bytes(source, tmp_path / "t", 4 * MIB)


def test_a_server_that_goes_away_and_comes_back_is_ridden_out(tmp_path: Path, source: Path) -> None:
    errors = ("error-pread=EIO", "error-pread-rate=100%", f"error-pread-file={tmp_path / 'broken'}")
    (tmp_path / "broken").touch()
    with moving.nbdkit(tmp_path, "--filter=error", "file", str(source), *errors) as uri:
        spec = moving.spec_of(tmp_path / "w", moving.disk_of(uri, SIZE, tmp_path / "t"))
        said = []
        with moving.running_mover(tmp_path, spec) as mover:
            for line in mover.stdout or ():
                said.append(line)
                if "try 2 of" in line:
                    (tmp_path / "broken").unlink(missing_ok=True)
            assert mover.wait(timeout=300) == 0, said
    assert any("try 2 of" in line for line in said)
    assert moving.same_bytes(source, tmp_path / "t", SIZE)


def test_a_second_mover_on_the_same_volume_is_refused_and_a_stopped_one_heeds_sigterm(
    tmp_path: Path, source: Path
) -> None:
    with moving.nbdkit(tmp_path, "file", str(source)) as uri:
        spec = moving.spec_of(tmp_path / "w", moving.disk_of(uri, SIZE, tmp_path / "t"))
        with moving.running_mover(tmp_path, spec, *moving.MUCH_LEFT) as first:
            moving.wait_for(lambda: journal_blocks(tmp_path / "w"), "a checkpoint")
            first.send_signal(signal.SIGSTOP)  # it must not end before the second has started
            with moving.running_mover(tmp_path, spec) as second:
                said, _ = second.communicate(timeout=300)
            first.terminate()
            first.send_signal(signal.SIGCONT)
            first.communicate(timeout=300)
    assert (second.returncode, first.returncode) == (12, 11)
    assert "holds the work volume" in said


def test_a_newer_mover_makes_the_older_one_end_and_goes_on_from_its_journal(tmp_path: Path, source: Path) -> None:
    with moving.nbdkit(tmp_path, "file", str(source)) as uri:
        disk = moving.disk_of(uri, SIZE, tmp_path / "t")
        older, newer = (moving.spec_of(tmp_path / "w", disk, epoch=epoch) for epoch in (1, 2))
        with moving.running_mover(tmp_path, older, *moving.MUCH_LEFT) as old:
            moving.wait_for(lambda: journal_blocks(tmp_path / "w"), "a checkpoint")
            old.send_signal(signal.SIGSTOP)  # it must not end before the newer one has claimed the volume
            with moving.running_mover(tmp_path, newer) as new:
                moving.wait_for(lambda: int((tmp_path / "w" / LOCK_NAME).read_text()) == 2, "the claim")
                old.send_signal(signal.SIGCONT)
                old.communicate(timeout=300)
                said, _ = new.communicate(timeout=300)
    assert (old.returncode, new.returncode) == (12, 0)
    assert msgspec.json.decode(said.splitlines()[-1])["disks"][0]["bytes_resumed"] > 0
    assert moving.same_bytes(source, tmp_path / "t", SIZE)


def test_a_frozen_older_mover_that_wakes_up_does_not_write(tmp_path: Path, source: Path) -> None:
    """The newer one copies another generation, so that any late write of the older one would be seen."""
    newer_source = moving.make_disk(tmp_path / "newer", SIZE, [(0, MIB)], seed=99)
    log = tmp_path / "log"
    with (
        moving.nbdkit(tmp_path, "--filter=log", "file", str(source), f"logfile={log}", name="old") as old_uri,
        moving.nbdkit(tmp_path, "file", str(newer_source), name="new") as new_uri,
    ):
        old_disk = moving.disk_of(old_uri, SIZE, tmp_path / "t")
        old_spec = moving.spec_of(tmp_path / "w", old_disk, epoch=1)
        with moving.running_mover(tmp_path, old_spec, *moving.MUCH_LEFT) as old:
            moving.wait_for(lambda: journal_blocks(tmp_path / "w"), "a checkpoint")
            old.send_signal(signal.SIGSTOP)
            new_disk = moving.disk_of(new_uri, SIZE, tmp_path / "t", generation="2")
            newer_spec = moving.spec_of(tmp_path / "w", new_disk, epoch=2)
            with moving.running_mover(tmp_path, newer_spec, "--takeover-wait", "0.2") as new:
                said, _ = new.communicate(timeout=300)
            assert new.returncode == 0, said
            journal = (tmp_path / "w" / "journal-0.bin").read_bytes()
            old.send_signal(signal.SIGCONT)
            old.communicate(timeout=300)
    assert old.returncode == 12
    assert moving.same_bytes(newer_source, tmp_path / "t", SIZE)
    assert (tmp_path / "w" / "journal-0.bin").read_bytes() == journal


def test_the_result_is_on_the_work_volume_too(tmp_path: Path, source: Path) -> None:
    result, _, _ = resume(tmp_path, source)
    kept = msgspec.json.decode((tmp_path / "w" / "transfer-result.json").read_bytes(), type=TransferResult)
    assert kept == result
    subprocess.run(["cmp", source, tmp_path / "t"], check=True)
