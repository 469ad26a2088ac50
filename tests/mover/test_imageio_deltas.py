"""Deltas out of oVirt: what changed since a backup's checkpoint, told by the real daemon out of a real dirty bitmap."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from mover.control.controls import Controls
from mover.geometry import BLOCK_BYTES, Extent, cut_into_blocks, merged
from mover.sources.imageio import ImageioSource
from mtv.model.transfer import ImageioDisk, OvirtDisk, Proof
from tests.mover import moving
from tests.mover.moving import MIB
from tests.mover.ovirt import SIZE, Ovirt, failure_code, served

pytestmark = pytest.mark.lab


def run(*command: str | Path) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=300)


@contextmanager
def image_server(folder: Path, image: Path, bitmap: str = "") -> Iterator[Path]:
    """The socket of a qemu-nbd with a qcow2 image, and with what one of its bitmaps notes."""
    socket = folder / "qemu.sock"
    argv = [
        "qemu-nbd",
        "--socket",
        socket,
        "--export-name=",
        "--persistent",
        "--shared=8",
        "--read-only",
        "-f",
        "qcow2",
    ]
    server = subprocess.Popen([*argv, *(("-B", bitmap) if bitmap else ()), image])
    try:
        moving.wait_for(socket.exists, "qemu-nbd")
        yield socket
    finally:
        server.terminate()
        server.wait()
        socket.unlink(missing_ok=True)


@pytest.fixture
def image(ovirt: Ovirt, tmp_path: Path) -> Path:
    """The disk as oVirt keeps it, with checkpoint cp0."""
    image = tmp_path / "image.qcow2"
    run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", ovirt.original, image)
    run("qemu-img", "bitmap", "--add", image, "cp0")
    return image


def copied(
    ovirt: Ovirt, folder: Path, source: ImageioDisk | OvirtDisk, generation: str, base: str = "", record: str = "dirty"
) -> moving.Ran:
    """Copy the disk of a generation into `folder`, as a delta where there is a base."""
    disk = moving.disk_of(source, SIZE, folder / "t", generation=generation)
    if base:
        disk = msgspec.structs.replace(disk, base_generation=base, dirty_context=record)
    return moving.run(msgspec.structs.replace(moving.spec_of(folder / "w", disk), credentials_dir=str(ovirt.secrets)))


def test_changed_areas_since_a_checkpoint_are_told(ovirt: Ovirt, image: Path, tmp_path: Path) -> None:
    run("qemu-io", "-c", "write -P 7 20M 128k", "-c", "write -z 1M 64k", "-c", "write -P 9 39M 64k", image)
    with image_server(tmp_path, image, "cp0") as socket:
        source = ImageioSource(Controls(ovirt.secrets).imageio_ticket(ovirt.transfer(socket, dirty=True)))
        assert source.size_bytes == SIZE
        assert source.changed_since("dirty") == [
            Extent(MIB, 64 << 10),
            Extent(20 * MIB, 128 << 10),
            Extent(39 * MIB, 64 << 10),
        ]


def test_a_chain_of_deltas_by_checkpoints_equals_a_fresh_copy_byte_for_byte(
    ovirt: Ovirt, image: Path, tmp_path: Path
) -> None:
    """By transfers that somebody made of backups, and by backups that the engine makes transfers of, in turns."""
    rng = random.Random(4)
    with image_server(tmp_path, image) as socket:
        assert copied(ovirt, tmp_path, ovirt.disk(socket), "0").result.ok
    for number in range(1, 4):
        commands, written = [], []
        writes = [("write -z -u", 5 * MIB, 65536)] if number == 1 else []  # data that became zeros, alone in its block
        for _ in range(rng.randrange(1, 4)):
            offset, length = rng.randrange(SIZE // 512) * 512, rng.choice([512, 65536, 300_032])
            how = rng.choice([f"write -P {rng.randrange(1, 256)}", "write -z -u", "discard"])
            writes.append((how, offset, min(length, SIZE - offset)))
        for how, offset, length in writes:
            commands += ["-c", f"{how} {offset} {length}"]
            start = offset // 65536 * 65536  # a bitmap's bit
            written.append(Extent(start, -(-(offset + length) // 65536) * 65536 - start))
        run("qemu-io", *commands, image)
        with image_server(tmp_path, image, f"cp{number - 1}") as socket:
            source = (
                ovirt.transfer(socket, dirty=True)
                if number % 2
                else msgspec.structs.replace(ovirt.disk(socket), backup="b1")
            )
            ran = copied(ovirt, tmp_path, source, str(number), base=str(number - 1))
            assert ran.result.ok, ran.lines
            assert ran.said("a delta")
            [done] = ran.result.disks
            assert done.bytes_read <= len(list(cut_into_blocks(merged(written, SIZE)))) * BLOCK_BYTES
            assert done.proof is Proof.SOURCE_CHECKED
            if number == 3:
                (tmp_path / "fresh").mkdir()
                fresh = copied(ovirt, tmp_path / "fresh", ovirt.disk(socket), str(number))
                assert fresh.result.disks[0].digest == done.digest
        run("qemu-img", "convert", "-f", "qcow2", "-O", "raw", image, tmp_path / "now.img")
        assert moving.same_bytes(tmp_path / "now.img", tmp_path / "t", SIZE)
        # What changes from now on is noted for the next link.
        run("qemu-img", "bitmap", "--remove", image, f"cp{number - 1}")
        run("qemu-img", "bitmap", "--add", image, f"cp{number}")
    assert moving.same_bytes(tmp_path / "fresh" / "t", tmp_path / "t", SIZE)


@pytest.mark.parametrize("record", ["dirty", "cp0"], ids=["of-no-backup", "of-another-name"])
def test_a_delta_that_the_server_cannot_tell_is_refused_before_anything_changes(
    ovirt: Ovirt, tmp_path: Path, record: str
) -> None:
    with served(tmp_path, ovirt.original) as socket:
        assert copied(ovirt, tmp_path, ovirt.disk(socket), "1").result.ok
        journal = (tmp_path / "w" / "journal-0.bin").read_bytes()
        ran = copied(ovirt, tmp_path, ovirt.disk(socket), "2", base="1", record=record)
    assert failure_code(ran) == "source-no-changes"
    assert ran.result.failure is not None
    assert not ran.result.failure.retryable
    assert (tmp_path / "w" / "journal-0.bin").read_bytes() == journal
