"""Conversion of real guests by the real virt-v2v."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import msgspec
import pytest

from lab.appliance import appliance
from lab.guests.boot import BOOT_LINE, Machine
from lab.guests.hardware import KUBEVIRT
from lab.guests.image import GuestImage, copy_image, guest_image
from lab.guests.spec import GuestSpec
from mover.convert import convert, overlay
from mtv.model.conversion import ConvertDisk, ConvertNic, ConvertResult, ConvertSpec, GuestScript
from mtv.model.transfer import Progress

pytestmark = [pytest.mark.convert, pytest.mark.timeout(1800)]


def sha256(path: str | Path) -> str:
    with Path(path).open("rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()


def spec_of(image: GuestImage, work: Path) -> ConvertSpec:
    work.mkdir()
    disks = tuple(
        ConvertDisk(id=f"disk-{n}", path=str(path), block=False, size_bytes=path.stat().st_size, digest=sha256(path))
        for n, path in enumerate(image.disks)
    )
    return ConvertSpec(plan="p", run="r", vm="v", epoch=1, disks=disks, work_dir=str(work))


def run(spec: ConvertSpec, *, with_appliance: bool = True) -> tuple[ConvertResult, list[Progress], list[str]]:
    progress: list[Progress] = []
    said: list[str] = []
    place = appliance() if with_appliance else Path(spec.work_dir) / "none"
    environ = {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "LIBGUESTFS_PATH": str(place)}
    result = convert(spec, emit=progress.append, say=said.append, digest=lambda d: sha256(d.path), environ=environ)
    return result, progress, said


def file_in(image: GuestImage, path: str) -> str:
    """A file of the guest's root filesystem, which begins at 1 MiB of the root disk."""
    disk = f"{image.root}?offset={1 << 20}"
    return subprocess.run(["debugfs", "-R", f"cat {path}", disk], capture_output=True, text=True, check=True).stdout


def test_a_vmware_guest_with_two_disks_is_converted_and_boots_on_virtio(tmp_path):
    image = copy_image(guest_image(GuestSpec(hostname="convert-me", data_mb=48, data_payload_mb=8)), tmp_path / "disks")
    spec = msgspec.structs.replace(
        spec_of(image, tmp_path / "work"),
        nics=(ConvertNic(mac="00:50:56:AA:BB:01", addresses=("10.0.2.15/24",)),),
        scripts=(GuestScript(name="10_linux_run_mark.sh", content="echo ran on $(uname -s) >/etc/mtv-ran\n"),),
    )

    result, progress, said = run(spec)

    assert result.ok, result.failure
    assert result.os_id == "debian12"
    assert result.firmware == "bios"
    assert set(result.drivers) == {"virtio-blk", "virtio-net"}
    assert result.digests == {disk.id: sha256(disk.path) for disk in spec.disks}
    assert result.digests["disk-0"] != spec.disks[0].digest
    assert list(dict.fromkeys(p.phase for p in progress)) == ["overlay", "inspect", "convert", "commit", "done"]
    percents = [p.percent for p in progress if p.phase == "convert"]
    assert percents == sorted(percents)
    assert {40, 45, 85} <= set(percents)
    # The source told no name; the guest's own configuration ties it to the address.
    assert "MACAddress=00:50:56:aa:bb:01" in file_in(image, "/etc/systemd/network/10-mtv-ens192.link")
    assert file_in(image, "/etc/mtv-ran") == "ran on Linux\n"
    found = result.inspection
    assert found is not None
    assert found.complete
    assert (found.root, found.boot_loader, found.hostname) == ("/dev/sda1", "grub2", "convert-me")
    assert [filesystem.mountpoint for filesystem in found.filesystems] == ["/", "/data"]
    assert all(0 < filesystem.free_bytes < filesystem.size_bytes for filesystem in found.filesystems)
    assert "open-vm-tools 12.2.0-1" in found.applications
    assert "default-kernel-unchanged" in {notice.code for notice in result.notices}
    assert any("conversion runs on" in line for line in said)
    assert not list((tmp_path / "work").glob("overlay-*"))
    with Machine(image.disks, KUBEVIRT) as machine:
        booted = machine.wait_for(BOOT_LINE, timeout_s=300)
        assert booted["disk"] == "virtio_blk"

    again, _, said_again = run(spec)
    assert again == result
    assert any("already committed" in line for line in said_again)


@pytest.mark.long
def test_a_conversion_that_fails_leaves_the_disk_as_it_was_copied(tmp_path):
    image = copy_image(guest_image(GuestSpec(hostname="no-room", full=True)), tmp_path / "disks")
    spec = spec_of(image, tmp_path / "work")

    result, _, _ = run(spec)

    assert not result.ok
    assert result.failure is not None
    assert result.failure.code == "guest-disk-full"
    assert not result.failure.retryable
    assert sha256(image.root) == spec.disks[0].digest
    assert overlay.read_journal(tmp_path / "work") is None
    assert not list((tmp_path / "work").glob("overlay-*"))


def test_a_commit_that_was_cut_off_is_finished_without_converting_again(tmp_path):
    disk = tmp_path / "disk.img"
    disk.write_bytes(b"\0" * (1 << 20))
    work = tmp_path / "work"
    spec = spec_of(GuestImage(root=disk, data=None, payload={}), work)
    (image,) = overlay.create(work, spec.disks)
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write -q -P 7 0 64k", str(image)], check=True)
    converted = ConvertResult(ok=True, os_id="debian12", warnings=("kept",))
    overlay.write_journal(
        work, overlay.Commit(state="commit_started", copies={"disk-0": spec.disks[0].digest}, result=converted)
    )

    result, _, _ = run(spec)

    assert disk.read_bytes()[: 64 << 10] == b"\7" * (64 << 10)
    assert result.resumed_commit
    expected = msgspec.structs.replace(
        converted, resumed_commit=True, digests={"disk-0": sha256(disk)}, seconds=result.seconds
    )
    assert result == expected


def test_a_journal_of_an_earlier_copy_does_not_answer_for_a_new_one(tmp_path):
    disk = tmp_path / "disk.img"
    disk.write_bytes(b"\0" * (1 << 20))
    work = tmp_path / "work"
    spec = spec_of(GuestImage(root=disk, data=None, payload={}), work)
    earlier = overlay.Commit(state="committed", copies={"disk-0": "another digest"}, result=ConvertResult(ok=True))
    overlay.write_journal(work, earlier)

    result, _, said = run(spec, with_appliance=False)  # a conversion that begins anew gets no further

    assert not result.ok, "an empty disk was answered for by the conversion of another"
    assert any("another copy" in line for line in said)
