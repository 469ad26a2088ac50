"""Storage that fails: each fault ends the copy with its own code, says if a retry helps, and costs no proven work."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import subprocess
import threading
from pathlib import Path

import pytest

import mover.ledger
from mover.buffers import block_buffer
from mover.failure import EXIT_PERMANENT, EXIT_TEMPORARY, exit_code_of
from mover.geometry import BLOCK_BYTES
from mover.targets.base import Target
from mover.targets.file import FileTarget
from mtv.model.errors import TemporaryError
from mtv.model.transfer import OvaMember, TransferSpec, Verify
from tests.mover import moving
from tests.mover.devices import loop_device, mounted_tmpfs, resize_tmpfs
from tests.mover.moving import MIB

BLOCK = BLOCK_BYTES
FAILING = {"pwrite": 7, "fdatasync": 2}
"""Which call on the target fails: late enough that something is proven."""


@pytest.fixture(autouse=True)
def checkpoints_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mover.ledger, "CHECKPOINT_BYTES", 2 * BLOCK)


def spec_of(
    tmp_path: Path, source: Path, target: Path, *, work: Path | None = None, block: bool = False
) -> TransferSpec:
    size = source.stat().st_size
    member = OvaMember(path=str(source), offset=0, length=size, format="raw")
    disk = moving.disk_of(member, size, target, block=block)
    return moving.spec_of(work or tmp_path / "w", disk, verify=Verify.FULL)


def failed(ran: moving.Ran, code: str, *, retryable: bool) -> None:
    """The run ended with this failure, which is also what its exit code says."""
    failure = ran.result.failure
    assert failure is not None
    assert (failure.code, failure.retryable) == (code, retryable), failure.message
    assert failure.cure
    assert exit_code_of(failure) == (EXIT_TEMPORARY if retryable else EXIT_PERMANENT)


def resumed(ran: moving.Ran, source: Path, target: Path) -> None:
    """The run went on from what an earlier one had proven, and the copy is whole."""
    size = source.stat().st_size
    assert ran.result.ok, ran.lines
    [done] = ran.result.disks
    assert 0 < done.bytes_resumed < size
    assert done.bytes_resumed + done.bytes_read == size
    assert moving.same_bytes(source, target, size)


def test_a_target_without_room(tmp_path: Path) -> None:
    """tmpfs does not take O_DIRECT, so this is the way through the page cache too."""
    source = moving.make_disk(tmp_path / "s", 10 * BLOCK + 99, [(0, 10 * BLOCK + 99)])
    room = tmp_path / "room"
    with mounted_tmpfs(room, 7 * BLOCK):
        spec = spec_of(tmp_path, source, room / "t")
        failed(moving.run(spec), "target-full", retryable=False)
        resize_tmpfs(room, 12 * BLOCK)
        resumed(moving.run(spec), source, room / "t")


def test_a_work_volume_without_room_for_the_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two pages: one is the lock's, the other holds the journal's header and its first records."""
    monkeypatch.setattr(mover.ledger, "CHECKPOINT_BYTES", 10 * 4096)
    areas = [(index * BLOCK, 4096) for index in range(120)]
    source = moving.make_disk(tmp_path / "s", 120 * BLOCK, areas)
    work = tmp_path / "room"
    with mounted_tmpfs(work, 2 * 4096):
        spec = spec_of(tmp_path, source, tmp_path / "t", work=work)
        failed(moving.run(spec), "work-volume-full", retryable=False)
        resize_tmpfs(work, MIB)
        ran = moving.run(spec)
        assert ran.result.ok, ran.lines
        [done] = ran.result.disks
        assert done.bytes_resumed >= 40 * 4096
        assert done.bytes_resumed + done.bytes_read == 120 * 4096
    assert moving.same_bytes(source, tmp_path / "t", 120 * BLOCK)


def test_a_work_volume_without_room_for_the_lock(tmp_path: Path) -> None:
    source = moving.make_disk(tmp_path / "s", BLOCK, [(0, BLOCK)])
    work = tmp_path / "room"
    with mounted_tmpfs(work, 4096):
        (work / "ballast").write_bytes(bytes(4096))
        failed(moving.run(spec_of(tmp_path, source, tmp_path / "t", work=work)), "work-volume-full", retryable=False)
    assert not (tmp_path / "t").exists()


@pytest.mark.parametrize("what", ["target", "work-volume"])
def test_a_read_only_filesystem(tmp_path: Path, what: str) -> None:
    source = moving.make_disk(tmp_path / "s", BLOCK, [(0, BLOCK)])
    room = tmp_path / "room"
    with mounted_tmpfs(room, 2 * BLOCK):
        (room / "t").touch()
        subprocess.run(["mount", "-o", "remount,ro", room], check=True)
        target, work = (room / "t", tmp_path / "w") if what == "target" else (tmp_path / "t", room)
        spec = spec_of(tmp_path, source, target, work=work)
        failed(moving.run(spec), f"{what}-read-only", retryable=False)
        subprocess.run(["mount", "-o", "remount,rw", room], check=True)
        assert moving.run(spec).result.ok


def test_a_read_only_device(tmp_path: Path) -> None:
    source = moving.make_disk(tmp_path / "s", BLOCK, [(0, BLOCK)])
    with loop_device(tmp_path / "back", BLOCK) as device:
        subprocess.run(["blockdev", "--setro", device], check=True)
        failed(moving.run(spec_of(tmp_path, source, device, block=True)), "target-denied", retryable=False)
        subprocess.run(["blockdev", "--setrw", device], check=True)
        assert moving.run(spec_of(tmp_path, source, device, block=True)).result.ok


def test_a_thin_device_without_room(tmp_path: Path) -> None:
    size = 10 * BLOCK
    source = moving.make_disk(tmp_path / "s", size, [(0, size)])
    thin = tmp_path / "thin"
    with mounted_tmpfs(thin, 6 * BLOCK), loop_device(thin / "back", size) as device:
        spec = spec_of(tmp_path, source, device, block=True)
        failed(moving.run(spec), "target-full", retryable=False)
        resize_tmpfs(thin, 12 * BLOCK)
        resumed(moving.run(spec), source, device)


def test_a_device_that_cannot_be_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop device answers EIO where the file behind it has come to an end."""
    size = 10 * BLOCK
    source = moving.make_disk(tmp_path / "s", size, [(0, size)])
    back = tmp_path / "back"
    read = Target.read

    def cut_and_read(target: Target, into: memoryview, offset: int, length: int) -> None:
        os.truncate(back, 0)
        read(target, into, offset, length)

    with loop_device(back, size) as device:
        spec = spec_of(tmp_path, source, device, block=True)
        with monkeypatch.context() as broken:
            broken.setattr(Target, "read", cut_and_read)
            ran = moving.run(spec)
        failed(ran, "target-io", retryable=True)
        os.truncate(back, size)
        ran = moving.run(spec)
        assert ran.result.ok, ran.lines
        assert ran.said("read back wrong are copied once more")
        assert moving.same_bytes(source, device, size)


@pytest.mark.parametrize("call", ["pwrite", "fdatasync"])
def test_an_input_output_error_of_a_write_or_a_flush(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """No device to be had here fails these calls, so the error is made where the system is called."""
    size = 10 * BLOCK
    source = moving.make_disk(tmp_path / "s", size, [(0, size)])
    spec = spec_of(tmp_path, source, tmp_path / "t")
    real = getattr(os, call)
    calls = itertools.count(1)

    def fail_once(fd: int, *arguments: object) -> object:
        if Path(f"/proc/self/fd/{fd}").readlink() == tmp_path / "t" and next(calls) == FAILING[call]:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(fd, *arguments)

    with monkeypatch.context() as broken:
        broken.setattr(os, call, fail_once)
        failed(moving.run(spec), "target-io", retryable=True)
    resumed(moving.run(spec), source, tmp_path / "t")


@pytest.mark.parametrize("lasts", [False, True], ids=["once", "from then on"])
@pytest.mark.parametrize(
    ("call", "name"), [("pwrite", "journal-0.bin"), ("fdatasync", "journal-0.bin"), ("pread", "lock")]
)
def test_an_input_output_error_of_the_work_volume_amid_a_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, name: str, *, lasts: bool
) -> None:
    size = 10 * BLOCK
    source = moving.make_disk(tmp_path / "s", size, [(0, size)])
    spec = spec_of(tmp_path, source, tmp_path / "t")
    real, flush = getattr(os, call), os.fdatasync
    failures = itertools.count()
    proven = threading.Event()

    def of(fd: int) -> str:
        return Path(f"/proc/self/fd/{fd}").readlink().name

    def fail(fd: int, *arguments: object) -> object:
        if of(fd) == name and proven.is_set() and (next(failures) == 0 or lasts):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(fd, *arguments)

    def flush_and_note(fd: int) -> None:
        fail(fd) if call == "fdatasync" else flush(fd)
        if of(fd) == "journal-0.bin":
            proven.set()

    with monkeypatch.context() as broken:
        broken.setattr(os, call, fail)
        broken.setattr(os, "fdatasync", flush_and_note)
        ran = moving.run(spec)
    failed(ran, "work-volume-io", retryable=True)
    assert next(failures) > 0
    resumed(moving.run(spec), source, tmp_path / "t")


@pytest.mark.parametrize("name", ["t", "journal-0.bin", "lock"])
def test_an_error_that_a_filesystem_kept_for_the_close_takes_nothing_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """All that counts was flushed by then; what was not is told by the flush that failed."""
    source = moving.make_disk(tmp_path / "s", 2 * BLOCK, [(0, 2 * BLOCK)])
    close = os.close
    kept = []

    def close_and_tell(fd: int) -> None:
        is_meant = Path(f"/proc/self/fd/{fd}").readlink().name == name
        close(fd)
        if is_meant:
            kept.append(fd)
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as broken:
        broken.setattr(os, "close", close_and_tell)
        ran = moving.run(spec_of(tmp_path, source, tmp_path / "t"))
    assert kept
    assert ran.result.ok, ran.lines


def test_a_target_that_is_cut_inside_a_sector_and_grows_again_while_it_is_read_is_called_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "t"
    target = FileTarget(path, BLOCK)
    target.prepare()
    read = os.preadv

    def cut_meanwhile(fd: int, into: list[memoryview], at: int) -> int:
        os.truncate(path, 100)
        count = read(fd, into, at)
        os.truncate(path, BLOCK)
        return count

    monkeypatch.setattr(os, "preadv", cut_meanwhile)
    with contextlib.closing(target), pytest.raises(TemporaryError, match="ends at 100,") as short:
        target.read(block_buffer(), 0, BLOCK)
    assert short.value.code == "target-short"


def test_a_target_cut_short_while_it_is_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = moving.make_disk(tmp_path / "s", BLOCK, [(0, BLOCK)])  # of one block: no other is written meanwhile
    spec = spec_of(tmp_path, source, tmp_path / "t")
    read = Target.read

    def cut_first(target: Target, into: memoryview, offset: int, length: int) -> None:
        os.truncate(target.path, 100)
        read(target, into, offset, length)

    with monkeypatch.context() as broken:
        broken.setattr(Target, "read", cut_first)
        failed(moving.run(spec), "target-short", retryable=True)
    assert moving.run(spec).result.ok
    assert moving.same_bytes(source, tmp_path / "t", BLOCK)
