"""Disks are looked into where they lie: any source that can be read at an offset becomes a read-only NBD export."""

from __future__ import annotations

import subprocess
import tarfile
from pathlib import Path

import pytest

from mover.convert import exports
from mover.convert.preflight import preflight_spec
from mover.nbd_server import NbdServer
from mover.sources.disk_file import open_disk_file
from mtv.model.conversion import PreflightDisk, PreflightSpec
from mtv.model.errors import PermanentError
from mtv.model.transfer import DiskFile, OvaMember
from tests.mover import moving

SIZE = (3 << 20) + 512
AREAS = [(0, 70_000), (1 << 20, 4096), ((3 << 20) - 100, 612)]


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return moving.make_disk(tmp_path_factory.mktemp("disk") / "disk.img", SIZE, AREAS)


def stream_optimized(disk: Path, folder: Path) -> tuple[Path, OvaMember]:
    """The disk as it lies in most OVAs."""
    vmdk = folder / "disk1.vmdk"
    options = ["-o", "subformat=streamOptimized"]
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "vmdk", *options, disk, vmdk], check=True)
    with tarfile.open(folder / "a.ova", "w") as tar:
        tar.add(vmdk, arcname=vmdk.name)
    with tarfile.open(folder / "a.ova") as tar:
        inside = tar.getmember(vmdk.name)
        member = OvaMember(path=str(folder / "a.ova"), offset=inside.offset_data, length=inside.size)
    return vmdk, member


def test_an_ova_member_is_seen_byte_for_byte_by_qemu(tmp_path: Path, disk: Path) -> None:
    _, member = stream_optimized(disk, tmp_path)
    wanted = [PreflightDisk(id="d", size_bytes=SIZE, source=member)]
    with exports.exported(wanted, tmp_path, tmp_path) as (uri,):
        for _ in range(2):  # a second client comes after the first
            subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "raw", uri, tmp_path / "seen"], check=True)
        info = subprocess.run(["qemu-io", "-f", "raw", "-c", "write 0 512", uri], capture_output=True, text=True)
    assert (tmp_path / "seen").read_bytes() == disk.read_bytes()
    assert "read-only" in info.stdout + info.stderr or info.returncode
    assert not list(tmp_path.glob("*.sock"))


def test_an_error_of_the_source_is_told_in_its_own_words(tmp_path: Path, disk: Path) -> None:
    vmdk, member = stream_optimized(disk, tmp_path)
    data = bytearray(Path(member.path).read_bytes())
    at = member.offset + vmdk.stat().st_size // 3
    data[at : at + 4000] = b"\xff" * 4000
    Path(member.path).write_bytes(data)
    wanted = [PreflightDisk(id="d", size_bytes=SIZE, source=member)]
    with (
        pytest.raises(PermanentError) as error,
        exports.exported(wanted, tmp_path, tmp_path) as (uri,),
    ):
        subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "raw", uri, tmp_path / "seen"], capture_output=True)
    assert error.value.code == "source-corrupt"


def test_a_client_that_talks_nonsense_harms_nobody(tmp_path: Path, disk: Path) -> None:
    import socket

    source = open_disk_file(DiskFile(path=str(disk), format="raw"))
    with NbdServer(source, tmp_path / "s") as server:
        for nonsense in (b"", b"\0" * 64, b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 5000):
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(tmp_path / "s"))
                client.sendall(nonsense)
        done = subprocess.run(["qemu-img", "info", "-f", "raw", "--output=json", server.uri], capture_output=True)
        assert f'"virtual-size": {SIZE}'.encode() in done.stdout
    source.close()


def test_a_stream_is_not_looked_into_and_that_is_said(tmp_path: Path, disk: Path) -> None:
    vmdk, _ = stream_optimized(disk, tmp_path)
    packed = tmp_path / "disk1.vmdk.gz"
    with packed.open("wb") as out:
        subprocess.run(["gzip", "-c", vmdk], stdout=out, check=True)
    member = OvaMember(path=str(packed), offset=0, length=packed.stat().st_size, compression="gzip")
    disks = (PreflightDisk(id="d", size_bytes=SIZE, source=member),)
    result = preflight_spec(PreflightSpec(plan="p", run="r", vm="v", disks=disks), say=print)
    assert result.ok
    assert [notice.code for notice in result.notices] == ["preflight-not-possible"]


def test_what_the_bytes_alone_tell_is_known_without_starting_anything(tmp_path: Path, disk: Path) -> None:
    encrypted = tmp_path / "disk.img"
    encrypted.write_bytes(b"\xeb\x58\x90-FVE-FS-".ljust(512, b"\0") + bytes(1 << 20))
    source = DiskFile(path=str(encrypted), format="raw")
    disks = (PreflightDisk(id="d", size_bytes=encrypted.stat().st_size, source=source),)
    result = preflight_spec(PreflightSpec(plan="p", run="r", vm="v", disks=disks), say=print)
    assert not result.ok
    assert result.failure is not None
    assert (result.failure.code, result.failure.retryable) == ("bitlocker", False)
    assert result.failure.cure
