"""Targets: zeros that are really there, sectors of 512 and 4096 bytes, sizes that fit nothing, reserved space."""

from __future__ import annotations

import errno
import itertools
from pathlib import Path

import msgspec
import pytest

import mover.targets.base
from mover.buffers import block_buffer
from mover.failure import VolumeHeld
from mover.geometry import BLOCK_BYTES, Extent
from mover.measure import digest_of_path
from mover.targets.block import BlockTarget
from mover.targets.file import FileTarget
from mover.targets.open import open_target
from mover.worklock import work_lock
from mtv.model.errors import PermanentError
from mtv.model.transfer import DiskTarget, OvaMember, TransferSpec, Verify
from tests.mover import moving
from tests.mover.devices import loop_device, mounted_tmpfs, unprivileged
from tests.mover.moving import MIB

BLOCK = BLOCK_BYTES
ODD_SIZES = [1, 511, 513, 4097, BLOCK - 513, 2 * BLOCK + 4096 + 512 + 1, 5 * BLOCK + 3 * 4096 + 700]


def spec_of(tmp_path: Path, source: Path, target: DiskTarget, *, verify: Verify = Verify.FULL) -> TransferSpec:
    size = source.stat().st_size
    member = OvaMember(path=str(source), offset=0, length=size, format="raw")
    disk = moving.disk_of(member, size, Path(target.path))
    return moving.spec_of(tmp_path / "w", msgspec.structs.replace(disk, target=target), verify=verify)


@pytest.mark.parametrize("sector", [512, 4096])
@pytest.mark.parametrize("size", ODD_SIZES)
def test_a_disk_of_an_odd_size_arrives_on_a_device_full_of_old_bytes(tmp_path: Path, sector: int, size: int) -> None:
    source = moving.make_disk(tmp_path / "s", size, [(size // 3, 70_000), (size - min(size, 700), 300)])
    room = -(-size // 4096) * 4096 + MIB
    back = tmp_path / "back"
    back.write_bytes(b"\xa5" * room)
    with loop_device(back, room, sector=sector) as device:
        for verify in (Verify.OFF, Verify.FULL):
            spec = spec_of(tmp_path, source, DiskTarget(path=str(device), block=True), verify=verify)
            ran = moving.run(spec)
            assert ran.result.ok, ran.lines
            assert moving.same_bytes(source, device, size), verify
        assert ran.result.disks[0].digest == digest_of_path(source) == digest_of_path(device, size_bytes=size)
    assert back.read_bytes()[size:] == b"\xa5" * (room - size)


def test_a_mover_that_loses_the_lock_while_a_flush_stalls_zeroes_nothing_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "device"  # a file does for this: what counts is the order of the calls
    path.write_bytes(b"\xa5" * BLOCK)
    target = BlockTarget(path, BLOCK)
    flush = target.flush

    def stall() -> None:
        flush()
        (tmp_path / "lock").unlink()  # a newer mover puts another file in its place

    monkeypatch.setattr(target, "flush", stall)
    with work_lock(tmp_path, 1) as lock:
        target.before_write = lock.check
        with pytest.raises(VolumeHeld):
            target.zero(Extent(0, BLOCK))
    target.close()
    assert path.read_bytes() == b"\xa5" * BLOCK


@pytest.mark.parametrize("sector", [512, 4096])
def test_a_device_that_keeps_its_word_is_zeroed_without_writing_zeros(
    tmp_path: Path, sector: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    back = tmp_path / "back"
    back.write_bytes(b"\xa5" * (8 * BLOCK))
    written = count_written(monkeypatch)
    with loop_device(back, 8 * BLOCK, sector=sector) as device:
        target = BlockTarget(device, 8 * BLOCK - 100)
        target.zero(Extent(0, 4 * BLOCK))
        target.zero(Extent(4 * BLOCK, 4 * BLOCK - 100))
        target.flush()
        assert target.zeroes_quickly
        assert content_of(target, 8 * BLOCK - 100) == bytes(8 * BLOCK - 100)
        target.close()
    assert sum(written) < MIB
    assert back.read_bytes()[-100:] == b"\xa5" * 100


def test_a_device_that_says_zeros_and_makes_none_is_written_with_zeros(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    back = tmp_path / "back"
    back.write_bytes(b"\xa5" * (3 * BLOCK))
    monkeypatch.setattr(mover.targets.base._libc, "fallocate", lambda *_arguments: 0)
    with loop_device(back, 3 * BLOCK) as device:
        target = BlockTarget(device, 3 * BLOCK)
        target.zero(Extent(0, 2 * BLOCK))
        target.zero(Extent(2 * BLOCK, BLOCK))
        target.flush()
        assert not target.zeroes_quickly
        assert content_of(target, 3 * BLOCK) == bytes(3 * BLOCK)
        target.close()


def test_a_device_that_forgets_only_one_end_of_the_area_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As devices do whose unit of discard is larger than the area's odd end."""
    back = tmp_path / "back"
    back.write_bytes(b"\xa5" * (2 * BLOCK))
    real = mover.targets.base._libc.fallocate
    monkeypatch.setattr(
        mover.targets.base._libc, "fallocate", lambda fd, mode, at, length: real(fd, mode, at, length - 4096)
    )
    with loop_device(back, 2 * BLOCK) as device:
        target = BlockTarget(device, 2 * BLOCK)
        target.zero(Extent(0, 2 * BLOCK))
        target.flush()
        assert content_of(target, 2 * BLOCK) == bytes(2 * BLOCK)
        target.close()


def test_preallocated_space_is_reserved_before_the_copy_and_kept_through_it(tmp_path: Path) -> None:
    size = 6 * BLOCK + 5
    source = moving.make_disk(tmp_path / "s", size, [(BLOCK, 4096), (size - 2, 2)])
    target = tmp_path / "t"
    for verify in (Verify.FULL, Verify.OFF):  # the second time over what the first left
        ran = moving.run(spec_of(tmp_path, source, DiskTarget(path=str(target), preallocate=True), verify=verify))
        assert ran.result.ok, ran.lines
        assert moving.same_bytes(source, target, size)
        assert target.stat().st_blocks * 512 >= size
    assert ran.result.disks[0].bytes_read == 0


def test_space_that_cannot_be_reserved_is_told_before_anything_is_copied(tmp_path: Path) -> None:
    size = 64 * MIB
    source = moving.make_disk(tmp_path / "s", size, [(0, MIB)])
    with mounted_tmpfs(tmp_path / "small", 8 * MIB):
        target = tmp_path / "small" / "t"
        failure = moving.run(spec_of(tmp_path, source, DiskTarget(path=str(target), preallocate=True))).result.failure
        assert failure is not None
        assert (failure.code, failure.retryable) == ("target-full", False)
        ran = moving.run(spec_of(tmp_path, source, DiskTarget(path=str(target))))  # sparse, it has room
        assert ran.result.ok, ran.lines


def test_a_filesystem_that_cannot_reserve_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = FileTarget(tmp_path / "t", BLOCK, preallocate=True)
    monkeypatch.setattr(target, "_allocate", lambda _mode, _area: OSError(errno.EOPNOTSUPP, "Operation not supported"))
    with pytest.raises(PermanentError) as caught:
        target.prepare()
    target.close()
    assert caught.value.code == "target-cannot-preallocate"


@pytest.mark.parametrize("preallocate", [False, True], ids=["sparse", "preallocated"])
def test_zeros_on_a_file_are_zeros_wherever_they_begin_and_end(tmp_path: Path, preallocate: bool) -> None:
    size = BLOCK + 8192 + 77
    for begin, end in itertools.pairwise([0, 1, 4095, 4096, BLOCK - 1, BLOCK + 5000, size]):
        path = tmp_path / f"t{begin}"
        path.write_bytes(b"\xa5" * size)
        target = FileTarget(path, size, preallocate=preallocate)
        target.zero(Extent(begin, end - begin))
        target.flush()
        target.close()
        expected = bytearray(b"\xa5" * size)
        expected[begin:end] = bytes(end - begin)
        assert path.read_bytes() == expected


def count_written(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Lengths of all pieces written to targets."""
    written: list[int] = []
    write_all = mover.targets.base.write_all

    def note(fd: int, data: memoryview, offset: int) -> None:
        written.append(len(data))
        write_all(fd, data, offset)

    monkeypatch.setattr(mover.targets.base, "write_all", note)
    return written


def content_of(target: BlockTarget, size: int) -> bytes:
    """All that the target holds, from the medium."""
    buffer = block_buffer()
    content = bytearray()
    for offset in range(0, size, BLOCK):
        length = min(BLOCK, size - offset)
        target.read(buffer, offset, length)
        content += buffer[:length]
    return bytes(content)


def test_a_folder_that_may_not_be_searched_is_told_by_its_code(tmp_path: Path) -> None:
    with unprivileged(tmp_path), pytest.raises(PermanentError) as refused:
        open_target(DiskTarget(path=str(tmp_path / "t")), MIB)
    assert (refused.value.code, bool(refused.value.cure)) == ("target-denied", True)
