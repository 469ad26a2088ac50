"""Copies of whole disks: every byte arrives, is proven, and what goes wrong is told apart."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mover.geometry import BLOCK_BYTES
from mover.measure import digest_of_path
from mover.targets.base import Target
from mtv.model.transfer import OvaMember, Proof, Verify
from tests.mover import moving
from tests.mover.devices import loop_device, mounted_ext4
from tests.mover.moving import MIB

BLOCK = BLOCK_BYTES
SIZES = [512, 4096, 5000, BLOCK - 1, BLOCK, BLOCK + 512, 3 * BLOCK + 4096 + 512, 10 * BLOCK + 1]


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """Ten and a bit blocks; data in the first, across a border, small and unaligned, and at the very end."""
    areas = [(0, MIB), (2 * BLOCK - 7, 100), (5 * BLOCK + 4096, 5 * MIB), (10 * BLOCK, 12345)]
    return moving.make_disk(tmp_path / "source.img", 10 * BLOCK + 12345, areas)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("filters", [(), ("--filter=noextents",)], ids=["extents", "no-extents"])
def test_a_disk_of_any_size_arrives_whole(tmp_path: Path, size: int, filters: tuple[str, ...]) -> None:
    source = moving.make_disk(tmp_path / "s", size, [(0, 300), (size // 3, MIB), (size - 200, 200)])
    with moving.nbdkit(tmp_path, *filters, "file", str(source)) as uri:
        ran = moving.run(moving.spec_of(tmp_path / "w", moving.disk_of(uri, size, tmp_path / "t")))
    assert ran.result.ok, ran.lines
    [done] = ran.result.disks
    assert moving.same_bytes(source, tmp_path / "t", size)
    assert (tmp_path / "t").stat().st_size == size
    assert done.digest == digest_of_path(source) == digest_of_path(tmp_path / "t")
    assert done.proof is Proof.AS_READ


def test_holes_are_neither_read_nor_stored(tmp_path: Path, disk: Path) -> None:
    size = disk.stat().st_size
    with moving.nbdkit(tmp_path, "file", str(disk)) as uri:
        [done] = moving.run(moving.spec_of(tmp_path / "w", moving.disk_of(uri, size, tmp_path / "t"))).result.disks
    assert done.bytes_read == done.bytes_data < 8 * MIB
    assert (tmp_path / "t").stat().st_blocks * 512 < 8 * MIB


def test_zeros_of_a_source_without_extents_are_not_stored(tmp_path: Path, disk: Path) -> None:
    size = disk.stat().st_size
    with moving.nbdkit(tmp_path, "--filter=noextents", "file", str(disk)) as uri:
        [done] = moving.run(moving.spec_of(tmp_path / "w", moving.disk_of(uri, size, tmp_path / "t"))).result.disks
    assert done.bytes_read == size
    assert (tmp_path / "t").stat().st_blocks * 512 < 8 * MIB


def test_an_empty_tebibyte_is_copied_without_reading_it(tmp_path: Path) -> None:
    size = 1 << 40
    with moving.nbdkit(tmp_path, "memory", str(size)) as uri:
        [done] = moving.run(moving.spec_of(tmp_path / "w", moving.disk_of(uri, size, tmp_path / "t"))).result.disks
    assert (done.bytes_read, done.proof) == (0, Proof.AS_READ)
    assert (tmp_path / "t").stat().st_blocks == 0


def test_old_bytes_in_an_existing_file_do_not_survive(tmp_path: Path, disk: Path) -> None:
    size = disk.stat().st_size
    (tmp_path / "t").write_bytes(b"\xa5" * (size + 4096))
    with moving.nbdkit(tmp_path, "file", str(disk)) as uri:
        ran = moving.run(moving.spec_of(tmp_path / "w", moving.disk_of(uri, size, tmp_path / "t")))
    assert ran.result.ok
    assert moving.same_bytes(disk, tmp_path / "t", size)


@pytest.mark.parametrize("tail", [0, 8 * MIB], ids=["exact", "larger"])
def test_old_bytes_on_a_block_device_do_not_survive(tmp_path: Path, tail: int) -> None:
    size = 10 * BLOCK + 4096 + 512
    disk = moving.make_disk(tmp_path / "s", size, [(0, MIB), (3 * BLOCK + 5, 70000), (size - 600, 600)])
    back = tmp_path / "back"
    back.write_bytes(b"\xa5" * (size + tail))
    with loop_device(back, size) as device, moving.nbdkit(tmp_path, "file", str(disk)) as uri:
        spec = moving.spec_of(tmp_path / "w", moving.disk_of(uri, size, device, block=True))
        ran = moving.run(spec)
        assert ran.result.ok, ran.lines
        assert digest_of_path(device, size_bytes=size) == ran.result.disks[0].digest == digest_of_path(disk)
        again = moving.run(spec)
        assert again.result.ok
        assert (again.result.disks[0].bytes_read, again.result.disks[0].digest) == (0, ran.result.disks[0].digest)
        with device.open("r+b") as file:  # in an area that the source knows as a hole
            file.seek(7 * BLOCK + 99)
            file.write(b"X")
        mended = moving.run(spec)
        assert mended.result.ok
        assert digest_of_path(device, size_bytes=size) == digest_of_path(disk)
    assert back.read_bytes()[size:] == b"\xa5" * tail


def test_a_block_device_that_is_too_small_is_refused(tmp_path: Path, disk: Path) -> None:
    with loop_device(tmp_path / "back", BLOCK) as device, moving.nbdkit(tmp_path, "file", str(disk)) as uri:
        ran = moving.run(moving.spec_of(tmp_path / "w", moving.disk_of(uri, disk.stat().st_size, device, block=True)))
    assert ran.result.failure is not None
    assert ran.result.failure.code == "target-too-small"


def test_a_source_of_another_size_is_refused_before_anything_is_written(tmp_path: Path, disk: Path) -> None:
    with moving.nbdkit(tmp_path, "file", str(disk)) as uri:
        ran = moving.run(moving.spec_of(tmp_path / "w", moving.disk_of(uri, 4096, tmp_path / "t")))
    assert ran.result.failure is not None
    assert (ran.result.failure.code, ran.result.failure.disk) == ("source-size", "0")
    assert (tmp_path / "t").stat().st_size == 0


areas = st.lists(st.tuples(st.integers(0, 26 * MIB), st.integers(1, 6 * MIB)), max_size=6)


@settings(max_examples=25)
@given(size=st.integers(1, 26 * MIB), areas=areas, checked=st.booleans())
def test_any_layout_of_data_arrives_and_is_proven(
    tmp_path_factory: pytest.TempPathFactory, size: int, areas: list[tuple[int, int]], checked: bool
) -> None:
    tmp_path = tmp_path_factory.mktemp("any")
    source = moving.make_disk(tmp_path / "s", size, [(o, n) for o, n in areas if o < size])
    member = OvaMember(path=str(source), offset=0, length=size, format="raw")
    ran = moving.run(moving.spec_of(tmp_path / "w", moving.disk_of(member, size, tmp_path / "t")))
    assert ran.result.ok, ran.lines
    assert moving.same_bytes(source, tmp_path / "t", size)
    assert ran.result.disks[0].digest == digest_of_path(source)


def flip(path: Path, offset: int) -> None:
    """Change one byte in the file."""
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)
        file.seek(offset)
        file.write(bytes([byte[0] ^ 1]))


@pytest.mark.parametrize("offset", [0, MIB - 1, 5 * BLOCK + 5000, 8 * BLOCK + 1, 10 * BLOCK + 12344])
def test_a_byte_flipped_on_the_target_is_found_named_and_mended_on_the_next_run(
    tmp_path: Path, disk: Path, offset: int
) -> None:
    size = disk.stat().st_size
    with moving.nbdkit(tmp_path, "file", str(disk)) as uri:
        spec = moving.spec_of(tmp_path / "w", moving.disk_of(uri, size, tmp_path / "t"))
        assert moving.run(spec).result.ok
        flip(tmp_path / "t", offset)
        ran = moving.run(spec)
    assert ran.result.ok
    assert ran.said(f"block at {offset // BLOCK * BLOCK} reads back wrong")  # in a hole too: the journal has them
    assert ran.result.disks[0].bytes_read <= BLOCK
    assert moving.same_bytes(disk, tmp_path / "t", size)


@pytest.mark.parametrize("offset", [100, 5 * BLOCK + 5000, 8 * BLOCK + 1], ids=["start", "middle", "hole"])
def test_a_target_that_keeps_flipping_a_byte_fails_with_disk_offset_and_both_digests(
    tmp_path: Path, disk: Path, offset: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = disk.stat().st_size
    flush = Target.flush

    def flush_badly(target: Target) -> None:
        flush(target)
        with target.path.open("r+b") as file:
            file.seek(offset)
            file.write(b"\x5a")
            file.flush()
            os.fsync(file.fileno())

    monkeypatch.setattr(Target, "flush", flush_badly)  # the medium that lies; there is no such disk to buy
    with moving.nbdkit(tmp_path, "file", str(disk)) as uri:
        ran = moving.run(moving.spec_of(tmp_path / "w", moving.disk_of(uri, size, tmp_path / "t")))
    failure = ran.result.failure
    assert failure is not None
    assert (failure.code, failure.disk, failure.retryable) == ("target-mismatch", "0", False)
    assert failure.offset in (offset, offset // BLOCK * BLOCK)
    assert failure.message.count("expected") == failure.message.count("found") == 1


def test_without_read_back_nothing_is_called_proven(tmp_path: Path, disk: Path) -> None:
    size = disk.stat().st_size
    for verify in (Verify.OFF, Verify.SAMPLED):
        with moving.nbdkit(tmp_path, "file", str(disk)) as uri:
            disk_spec = moving.disk_of(uri, size, tmp_path / f"t-{verify}", id=verify)
            [done] = moving.run(moving.spec_of(tmp_path / "w", disk_spec, verify=verify)).result.disks
        assert (done.proof, done.digest) == (Proof.NONE, digest_of_path(disk))


def test_one_bad_disk_does_not_lose_the_others(tmp_path: Path, disk: Path) -> None:
    size = disk.stat().st_size
    with moving.nbdkit(tmp_path, "file", str(disk)) as uri:
        good = [moving.disk_of(uri, size, tmp_path / f"t{n}", id=f"good/{n}") for n in range(3)]
        away = moving.disk_of(uri, size, tmp_path / "away" / "t", id="bad")
        worse = moving.disk_of(OvaMember(path="/dev/full", offset=0, length=9), 9, tmp_path / "u", id="ugly")
        ran = moving.run(moving.spec_of(tmp_path / "w", good[0], away, *good[1:], worse))
        assert [done.id for done in ran.result.disks] == ["good/0", "good/1", "good/2"]
        assert ran.result.failure is not None
        assert ran.result.failure.disk in ("bad", "ugly")
        assert {line["disk"] for line in ran.lines if line["event"] == "error"} == {"bad", "ugly"}
        again = moving.run(moving.spec_of(tmp_path / "w", *good))
    assert [done.bytes_read for done in again.result.disks] == [0, 0, 0]


def test_a_full_volume_stops_cleanly_and_the_copy_resumes_when_there_is_room(tmp_path: Path) -> None:
    size = 24 * BLOCK
    source = moving.make_disk(tmp_path / "s", size, [(0, size)])
    room = tmp_path / "room"
    room.mkdir()
    with mounted_ext4(tmp_path / "fs.img", room, 160 * MIB), moving.nbdkit(tmp_path, "file", str(source)) as uri:
        (room / "ballast").write_bytes(bytes(100 * MIB))
        spec = moving.spec_of(tmp_path / "w", moving.disk_of(uri, size, room / "disk.img"))
        failure = moving.run(spec).result.failure
        assert failure is not None
        assert (failure.code, failure.retryable) == ("target-full", False)
        (room / "ballast").unlink()
        again = moving.run(spec)
        assert again.result.ok, again.lines
        [done] = again.result.disks
        assert done.bytes_resumed > 0
        assert done.bytes_read + done.bytes_resumed == size
        assert moving.same_bytes(source, room / "disk.img", size)
