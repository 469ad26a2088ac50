"""A conversion writes into the copied disks: from then on the journals of their copies vouch for nothing."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

import mover.convert.run
from mover.cli import main
from mover.convert import convert, overlay
from mover.failure import EXIT_PERMANENT, VolumeHeld
from mover.geometry import BLOCK_BYTES
from mover.measure import digest_of_path
from mtv.model.conversion import ConvertDisk, ConvertResult, ConvertSpec, GuestScript
from mtv.model.transfer import DiskTarget, DiskTransfer, TransferSpec, Verify
from tests.mover import moving
from tests.mover.devices import loop_device
from tests.mover.moving import MIB
from tests.mover.test_deltas import delta, raw_disk

BLOCK = BLOCK_BYTES
SIZE = 4 * BLOCK


@contextmanager
def target_at(folder: Path, kind: str) -> Iterator[DiskTarget]:
    """A file, or a device with a name of its own."""
    if kind == "file":
        yield DiskTarget(path=str(folder / "t"))
        return
    with loop_device(folder / "t", SIZE) as device:
        yield DiskTarget(path=str(device), block=True, volume="claim-1")


def copy_of(source: Path, target: DiskTarget, generation: str = "1") -> DiskTransfer:
    return msgspec.structs.replace(raw_disk(source, Path(target.path), generation), target=target)


def conversion_of(spec: TransferSpec) -> ConvertSpec:
    disks = tuple(
        ConvertDisk(
            id=disk.id,
            path=disk.target.path,
            block=disk.target.block,
            size_bytes=disk.size_bytes,
            digest=digest_of_path(Path(disk.target.path), size_bytes=disk.size_bytes),
        )
        for disk in spec.disks
    )
    return ConvertSpec(plan="p", run="1", vm="v", epoch=2, disks=disks, work_dir=spec.work_dir)


def write_overlays(spec: ConvertSpec) -> ConvertResult:
    """What a conversion leaves that ended well and is not committed yet."""
    for image in overlay.create(Path(spec.work_dir), spec.disks):
        subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write -q -P 7 1M 64k", image], check=True)
    return ConvertResult(ok=True)


@pytest.fixture
def ends_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every conversion reaches its commit, without virt-v2v."""
    monkeypatch.setattr(mover.convert.run._Conversion, "run", lambda conversion: write_overlays(conversion.spec))


class Lock:
    """A work volume that a newer mover takes over just before the `number`th look at it."""

    def __init__(self, number: int) -> None:
        self._left = number

    def check(self) -> None:
        self._left -= 1
        if self._left <= 0:
            raise VolumeHeld("a newer mover has the volume", code="volume-held")


def converted(spec: ConvertSpec, lock: Lock | None = None) -> ConvertResult:
    return convert(
        spec,
        emit=lambda _: None,
        say=lambda _: None,
        digest=lambda disk: digest_of_path(Path(disk.path)),
        check_lock=lock.check if lock else lambda: None,
    )


@pytest.mark.usefixtures("ends_well")
@pytest.mark.parametrize("kind", ["file", "device"])
@pytest.mark.parametrize("is_delta", [False, True], ids=["resumed", "delta"])
def test_a_copy_to_a_converted_target_starts_from_zero_and_says_why(tmp_path: Path, kind: str, is_delta: bool) -> None:
    source = moving.make_disk(tmp_path / "s", SIZE, [(0, 2 * MIB), (2 * BLOCK, 100)])
    with target_at(tmp_path, kind) as target:
        base = moving.spec_of(tmp_path / "w", copy_of(source, target), verify=Verify.FULL if is_delta else Verify.OFF)
        assert moving.run(base).result.ok
        assert converted(conversion_of(base)).ok
        assert not moving.same_bytes(source, Path(target.path), SIZE)
        disk = delta(copy_of(source, target, "2"), "1", []) if is_delta else base.disks[0]
        ran = moving.run(msgspec.structs.replace(base, disks=(disk,)))
        assert ran.result.ok, ran.lines
        assert ran.said("was converted since")
        assert ran.result.disks[0].bytes_resumed == 0
        assert moving.same_bytes(source, Path(target.path), SIZE)


@pytest.mark.usefixtures("ends_well")
def test_journals_are_taken_back_before_the_first_byte_of_a_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = moving.make_disk(tmp_path / "s", SIZE, [(0, 2 * MIB)])
    spec = moving.spec_of(tmp_path / "w", raw_disk(source, tmp_path / "t", "1"), verify=Verify.OFF)
    assert moving.run(spec).result.ok
    wanted = conversion_of(spec)

    def cut_off(*_arguments: object, **_named: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(overlay, "commit", cut_off)
        with pytest.raises(KeyboardInterrupt):
            converted(wanted)
    ran = moving.run(spec)
    assert ran.said("was converted since")
    assert ran.result.disks[0].bytes_resumed == 0


@pytest.mark.parametrize("is_ok", [True, False], ids=["converted", "failed"])
def test_a_conversion_that_lost_its_volume_neither_commits_nor_throws_away_what_is_another_movers_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_ok: bool
) -> None:
    source = moving.make_disk(tmp_path / "s", SIZE, [(0, 2 * MIB)])
    spec = moving.spec_of(tmp_path / "w", raw_disk(source, tmp_path / "t", "1"))
    assert moving.run(spec).result.ok
    wanted = conversion_of(spec)
    write_overlays(wanted)
    monkeypatch.setattr(mover.convert.run._Conversion, "run", lambda _: ConvertResult(ok=is_ok))
    before = {path: path.read_bytes() for path in (tmp_path / "w").iterdir()}
    with pytest.raises(VolumeHeld):
        converted(wanted, Lock(1))
    assert {path: path.read_bytes() for path in (tmp_path / "w").iterdir()} == before
    assert moving.same_bytes(source, tmp_path / "t", SIZE)


@pytest.mark.usefixtures("ends_well")
def test_a_commit_that_lost_its_volume_leaves_the_next_disk_alone(tmp_path: Path) -> None:
    source = moving.make_disk(tmp_path / "s", SIZE, [(0, 2 * MIB)])
    disks = [msgspec.structs.replace(raw_disk(source, tmp_path / f"t{n}", "1"), id=str(n)) for n in range(2)]
    spec = moving.spec_of(tmp_path / "w", *disks)
    assert moving.run(spec).result.ok
    wanted = conversion_of(spec)
    with pytest.raises(VolumeHeld):
        converted(wanted, Lock(1 + 2 * 2 + 2))  # one look before the commit, two for each journal, one for each disk
    assert not moving.same_bytes(source, tmp_path / "t0", SIZE)
    assert moving.same_bytes(source, tmp_path / "t1", SIZE)
    assert converted(wanted).resumed_commit  # the newer one finishes it
    assert moving.same_bytes(tmp_path / "t0", tmp_path / "t1", SIZE)


def test_a_conversion_that_fails_before_its_commit_leaves_the_copy_resumable(tmp_path: Path) -> None:
    source = moving.make_disk(tmp_path / "s", SIZE, [(0, 2 * MIB)])
    spec = moving.spec_of(tmp_path / "w", raw_disk(source, tmp_path / "t", "1"))
    assert moving.run(spec).result.ok
    refused = msgspec.structs.replace(conversion_of(spec), scripts=(GuestScript(name="no name", content=""),))
    assert not converted(refused).ok
    again = moving.run(spec).result.disks[0]
    assert again.bytes_read == 0
    assert again.bytes_resumed == again.bytes_data


@pytest.mark.usefixtures("ends_well")
def test_a_converted_target_is_not_verified_against_the_journal_of_its_copy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = moving.make_disk(tmp_path / "s", SIZE, [(0, 2 * MIB)])
    spec = moving.spec_of(tmp_path / "w", raw_disk(source, tmp_path / "t", "1"))
    assert moving.run(spec).result.ok
    journals = [tmp_path / "w" / "journal-0.bin", tmp_path / "t.mtv-journal"]
    journals[1].write_bytes(journals[0].read_bytes())  # as a copy by hand keeps it
    assert converted(conversion_of(spec)).ok
    for journal in journals:
        assert main(["verify", "--target", str(tmp_path / "t"), "--journal", str(journal)]) == EXIT_PERMANENT
        assert "was converted since" in capsys.readouterr().out


@pytest.mark.usefixtures("ends_well")
def test_a_source_that_is_copied_again_is_converted_again(tmp_path: Path) -> None:
    """Its digest is the same as the first time: that alone must not make the first conversion answer."""
    source = moving.make_disk(tmp_path / "s", SIZE, [(0, 2 * MIB)])
    spec = moving.spec_of(tmp_path / "w", raw_disk(source, tmp_path / "t", "1"))
    results = []
    for _ in range(2):
        assert moving.run(spec).result.ok
        assert moving.same_bytes(source, tmp_path / "t", SIZE)
        results.append(converted(conversion_of(spec)))
        assert not moving.same_bytes(source, tmp_path / "t", SIZE), "called converted, and holds the source's bytes"
    assert results[0].digests == results[1].digests
