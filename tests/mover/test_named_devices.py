"""Block devices that the spec names for good: what is read back of them, and whose journal is believed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from mover.cli import main
from mover.failure import EXIT_OK
from mover.geometry import BLOCK_BYTES
from mover.measure import digest_of_path
from mover.targets.block import BlockTarget
from mtv.model.transfer import DiskTarget, DiskTransfer, Proof, Verify
from tests.mover import moving
from tests.mover.devices import loop_device
from tests.mover.test_deltas import change, delta, raw_disk

BLOCK = BLOCK_BYTES
SIZE = 6 * BLOCK
DATA = [(0, 1000), (2 * BLOCK, 2 * BLOCK), (5 * BLOCK, 5000)]


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Path]:
    back = tmp_path / "back"
    back.write_bytes(b"\xa5" * SIZE)
    with loop_device(back, SIZE) as device:
        yield device


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return moving.make_disk(tmp_path / "s", SIZE, DATA)


def test_the_digest_of_a_device_is_that_of_its_bytes(
    device: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["digest", str(device)]) == EXIT_OK
    assert capsys.readouterr().out.split() == [digest_of_path(tmp_path / "back")]


def disk_on(device: Path, source: Path, volume: str, generation: str = "1") -> DiskTransfer:
    disk = raw_disk(source, device, generation)
    return msgspec.structs.replace(disk, target=DiskTarget(path=str(device), block=True, volume=volume))


def blocks_read_back(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The blocks of the target that are read from now on."""
    blocks, read = list[int](), BlockTarget.read

    def note(target: BlockTarget, into: memoryview, offset: int, length: int) -> None:
        blocks.append(offset // BLOCK)
        read(target, into, offset, length)

    monkeypatch.setattr(BlockTarget, "read", note)
    return blocks


@pytest.mark.parametrize(
    ("volume", "expected"), [("claim-1", [3]), ("", [0, 1, 2, 3, 4, 5])], ids=["named", "nameless"]
)
def test_a_delta_reads_back_what_it_copied_where_the_device_is_surely_the_same(
    device: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, volume: str, expected: list[int]
) -> None:
    assert moving.run(moving.spec_of(tmp_path / "w", disk_on(device, source, volume))).result.ok
    with source.open("r+b") as file:
        file.seek(3 * BLOCK + 77)
        file.write(b"changed")
    blocks = blocks_read_back(monkeypatch)
    disk = delta(disk_on(device, source, volume, "2"), "1", [(3 * BLOCK + 77, 7)])
    ran = moving.run(moving.spec_of(tmp_path / "w", disk))
    assert ran.result.ok, ran.lines
    assert sorted(set(blocks)) == expected
    assert ran.result.disks[0].proof is Proof.AS_READ
    assert moving.same_bytes(source, device, SIZE)


@pytest.mark.parametrize("volume", ["claim-1", ""], ids=["named", "nameless"])
def test_a_chain_of_deltas_on_a_device_full_of_old_bytes_equals_the_source(
    device: Path, source: Path, tmp_path: Path, volume: str
) -> None:
    rng = random.Random(volume)
    assert moving.run(moving.spec_of(tmp_path / "w", disk_on(device, source, volume, "0"))).result.ok
    for number in range(1, 4):
        dirty = change(source, rng, SIZE, 2)  # data, zeros where data was, data where zeros were
        disk = delta(disk_on(device, source, volume, str(number)), str(number - 1), dirty)
        ran = moving.run(moving.spec_of(tmp_path / "w", disk))
        assert ran.result.ok, ran.lines
        assert ran.said("a delta")
        assert ran.result.disks[0].digest == digest_of_path(source)
        assert moving.same_bytes(source, device, SIZE)


@pytest.mark.parametrize(("volume", "expected"), [("claim-1", []), ("", list(range(6)))], ids=["named", "nameless"])
def test_a_resumed_copy_without_verification_reads_back_only_a_device_that_may_be_another(
    device: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, volume: str, expected: list[int]
) -> None:
    spec = moving.spec_of(tmp_path / "w", disk_on(device, source, volume), verify=Verify.OFF)
    assert moving.run(spec).result.ok
    blocks = blocks_read_back(monkeypatch)
    assert moving.run(spec).result.ok
    assert sorted(set(blocks)) == expected


def test_the_device_of_another_claim_at_the_same_place_is_copied_from_zero(
    device: Path, source: Path, tmp_path: Path
) -> None:
    assert moving.run(moving.spec_of(tmp_path / "w", disk_on(device, source, "claim-1"))).result.ok
    device.write_bytes(b"\x5a" * SIZE)
    for disk in (disk_on(device, source, "claim-2", "1"), delta(disk_on(device, source, "claim-3", "2"), "1", [])):
        ran = moving.run(moving.spec_of(tmp_path / "w", disk))
        assert ran.result.ok, ran.lines
        assert ran.said("another")
        assert ran.result.disks[0].bytes_resumed == 0
        assert moving.same_bytes(source, device, SIZE)
