"""What lies on a disk, read from its own bytes: partitions, encryption, NTFS left dirty or asleep."""

from __future__ import annotations

import contextlib
import os
import random
import struct
import subprocess
import traceback
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mover.convert import hazards, ntfs
from mover.convert.volumes import root_device, volumes_of
from mtv.model.conversion import LuksKey
from mtv.model.errors import PermanentError

MIB = 1 << 20


def partitioned(path: Path, script: str, *, size: int = 64 * MIB) -> Path:
    with path.open("wb") as out:
        out.truncate(size)
    subprocess.run(["sfdisk", "-q", str(path)], input=script, text=True, check=True, capture_output=True)
    return path


def put(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as out:
        out.seek(offset)
        out.write(data)


def found_on(path: Path):
    with hazards.reading(path) as (read, size):
        return volumes_of(read, size, disk=0, device="/dev/sda")


@pytest.fixture
def windows(tmp_path):
    """A disk with one NTFS partition, as Windows leaves it: clean."""
    disk = partitioned(tmp_path / "win.img", "label: dos\nlabel-id: 0x1234abcd\nstart=1MiB, type=7\n", size=10 * MIB)
    volume = tmp_path / "volume"
    with volume.open("wb") as out:
        out.truncate(9 * MIB)
    subprocess.run(["mkntfs", "-q", "-F", "-Q", str(volume)], check=True, capture_output=True)
    return disk, volume


def finish(windows) -> Path:
    disk, volume = windows
    put(disk, MIB, volume.read_bytes())
    return disk


def add_file(volume: Path, name: str, content: bytes) -> None:
    source = volume.parent / "content"
    source.write_bytes(content)
    subprocess.run(["ntfscp", "-f", "-q", str(volume), str(source), name], check=True, capture_output=True)


def mark_dirty(volume: Path) -> None:
    """Set bit 0 of $Volume's flags, as Windows does when it wants chkdsk."""
    info = subprocess.run(["ntfsinfo", "-i", "3", str(volume)], capture_output=True, text=True, check=True).stdout
    assert "VOLUME_INFORMATION" in info
    data = bytearray(volume.read_bytes())
    mft = struct.unpack_from("<Q", data, 48)[0] * struct.unpack_from("<H", data, 11)[0] * data[13]
    record = mft + 3 * 1024
    at = record + struct.unpack_from("<H", data, record + 20)[0]
    while struct.unpack_from("<I", data, at)[0] != 0x70:
        at += struct.unpack_from("<I", data, at + 4)[0]
    flags = at + struct.unpack_from("<H", data, at + 20)[0] + 10
    data[flags] |= 1
    volume.write_bytes(data)


def test_partitions_of_an_mbr_are_found_with_logical_ones_and_the_signature(tmp_path):
    script = "label: dos\nlabel-id: 0x1234abcd\nstart=1MiB, size=8MiB, type=83\nstart=10MiB, type=5\n"
    script += "start=11MiB, size=8MiB, type=83\nstart=20MiB, size=8MiB, type=83\n"
    found = found_on(partitioned(tmp_path / "d", script))
    assert [v.device for v in found] == ["/dev/sda1", "/dev/sda5", "/dev/sda6"]
    assert found[0].offset == MIB
    assert {v.disk_signature for v in found} == {"1234abcd"}


def test_partitions_of_a_gpt_are_found_with_their_guids(tmp_path):
    guid = "11111111-2222-3333-4444-555555555555"
    found = found_on(partitioned(tmp_path / "d", f"label: gpt\nsize=8MiB, type=uefi\nsize=8MiB, uuid={guid}\n"))
    assert [v.device for v in found] == ["/dev/sda1", "/dev/sda2"]
    assert found[1].partition_guid == guid


def test_a_disk_without_partitions_is_one_volume(tmp_path):
    disk = tmp_path / "d"
    disk.write_bytes(b"\0" * MIB)
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", str(disk), "8M"], check=True, capture_output=True)
    (volume,) = found_on(disk)
    assert (volume.device, volume.number, volume.kind) == ("/dev/sda", 0, "ext")


def test_a_clean_windows_volume_passes(windows):
    volumes, notices = hazards.volumes([finish(windows)])
    assert [(v.device, v.kind) for v in volumes] == [("/dev/sda1", "ntfs")]
    assert notices == ()


@pytest.mark.parametrize(
    ("header", "refused"), [(b"hibr", True), (b"HIBR", True), (b"wake", False), (b"\0\0\0\0", False)]
)
def test_a_hibernated_windows_is_refused_by_what_its_hiberfil_says(windows, header, refused):
    add_file(windows[1], "hiberfil.sys", header + b"\0" * 8188)
    disk = finish(windows)
    if refused:
        with pytest.raises(PermanentError, match="hibernated") as raised:
            hazards.volumes([disk])
        assert raised.value.code == "guest-hibernated"
        assert "powercfg" in raised.value.cure
    else:
        assert hazards.volumes([disk])[1] == ()


def test_hiberfil_is_found_in_a_root_folder_of_several_blocks(windows):
    for number in range(40):
        add_file(windows[1], f"{'x' * 200}-{number:04}", b"y")
    add_file(windows[1], "HiberFil.sys", b"hibr" + b"\0" * 8188)
    with pytest.raises(PermanentError, match="hibernated"):
        hazards.volumes([finish(windows)])


def test_a_dirty_ntfs_volume_is_refused(windows):
    mark_dirty(windows[1])
    with pytest.raises(PermanentError, match="marked dirty") as raised:
        hazards.volumes([finish(windows)])
    assert raised.value.code == "ntfs-dirty"
    assert "chkdsk" in raised.value.cure


def test_bitlocker_is_refused(windows):
    disk = finish(windows)
    put(disk, MIB + 3, b"-FVE-FS-")
    with pytest.raises(PermanentError, match="BitLocker") as raised:
        hazards.volumes([disk])
    assert raised.value.code == "bitlocker"


def test_ntfs_records_that_end_too_early_are_a_warning_not_a_clean_bill(windows):
    disk = finish(windows)
    os.truncate(disk, MIB + 8192)
    _, (notice,) = hazards.volumes([disk])
    assert notice.code == "ntfs-unreadable"


def test_a_dynamic_disk_is_a_warning(tmp_path):
    _, (notice,) = hazards.volumes([partitioned(tmp_path / "d", "label: dos\nstart=1MiB, type=42\n")])
    assert notice.code == "windows-dynamic-disk"


@settings(max_examples=150)
@given(seed=st.integers(0, 2**32), start=st.sampled_from([b"", b"\xeb\x52\x90NTFS    "]), size=st.integers(0, 70_000))
def test_no_bytes_make_the_scan_fail_otherwise_than_with_a_refusal(seed, start, size):
    data = start + random.Random(seed).randbytes(size)
    data = data[:510] + b"\x55\xaa" + data[512:]

    def read(offset: int, length: int) -> bytes:
        return data[offset : offset + length] if offset >= 0 else b""

    with contextlib.suppress(PermanentError):
        hazards.examine(read, len(data), disk=0)


@settings(max_examples=60)
@given(data=st.data())
def test_flipped_bytes_in_real_ntfs_never_do_more_than_refuse(ntfs_bytes, data):
    broken = bytearray(ntfs_bytes)
    for _ in range(data.draw(st.integers(1, 40))):
        broken[data.draw(st.integers(0, 64 << 10))] = data.draw(st.integers(0, 255))
    raw = bytes(broken)
    with contextlib.suppress(ntfs.Unreadable):
        ntfs.state_of(lambda offset, length: raw[offset : offset + length] if offset >= 0 else b"", 0)


@pytest.fixture(scope="module")
def ntfs_bytes(tmp_path_factory):
    volume = tmp_path_factory.mktemp("ntfs") / "volume"
    with volume.open("wb") as out:
        out.truncate(2 * MIB)
    subprocess.run(["mkntfs", "-q", "-F", "-Q", str(volume)], check=True, capture_output=True)
    add_file(volume, "hiberfil.sys", b"wake" + b"\0" * 8188)
    return volume.read_bytes()


@pytest.fixture
def luks(tmp_path):
    """The header of a LUKS volume is enough to be found by."""
    disk = partitioned(tmp_path / "luks.img", "label: dos\nstart=1MiB, size=8MiB, type=83\nstart=10MiB, type=83\n")
    put(disk, 10 * MIB, b"LUKS\xba\xbe\0\1")
    put(disk, 10 * MIB + 168, b"0f0e0d0c-0b0a-0908-0706-050403020100")
    return hazards.volumes([disk])[0]


def test_one_key_for_all_goes_to_every_encrypted_volume(luks, tmp_path):
    (tmp_path / "passphrase").write_text("open sesame")
    (key,) = hazards.keys_for([LuksKey(file="passphrase")], tmp_path, luks)
    assert key.device == "/dev/sda2"
    assert "sesame" not in repr(key)


def test_a_key_may_name_the_volume_by_its_uuid(luks, tmp_path):
    (tmp_path / "k").write_text("x")
    uuid = "0f0e0d0c-0b0a-0908-0706-050403020100"
    assert hazards.keys_for([LuksKey(device=uuid, file="k")], tmp_path, luks)[0].device == uuid


def test_an_encrypted_volume_without_a_key_is_refused_before_anything_starts(luks, tmp_path):
    with pytest.raises(PermanentError, match="/dev/sda2 is encrypted") as raised:
        hazards.keys_for([], tmp_path, luks)
    assert raised.value.code == "encrypted"


@pytest.mark.parametrize("name", ["missing", "empty", "newline", "lines", "binary", "nul", "../secret", ""])
def test_a_key_file_that_is_missing_empty_elsewhere_or_no_line_of_text_is_refused_and_not_quoted(luks, tmp_path, name):
    folder = tmp_path / "keys"
    folder.mkdir()
    (folder / "empty").touch()
    contents = {"newline": b"\n", "lines": b"canary\nmore\n", "binary": b"canary\xff", "nul": b"canary\0"}
    for other, content in contents.items():
        (folder / other).write_bytes(content)
    (tmp_path / "secret").write_text("x")
    with pytest.raises(PermanentError) as raised:
        hazards.keys_for([LuksKey(file=name)], folder, luks)
    assert raised.value.code == "luks-key"
    assert raised.value.cure
    assert "canary" not in "".join(traceback.format_exception(raised.value))


def test_every_file_of_a_mounted_secret_is_tried_as_a_key(luks, tmp_path):
    folder = tmp_path / "keys"
    stored = folder / "..2026_11_25"  # as the kubelet lays out a Secret
    stored.mkdir(parents=True)
    (folder / "..data").symlink_to(stored)
    for name in ("old", "new"):
        (stored / name).write_text("x")
        (folder / name).symlink_to(f"..data/{name}")
    keys = hazards.keys_for([LuksKey(file="*")], folder, luks)
    assert [(key.device, key.path) for key in keys] == [
        ("/dev/sda2", str(folder / "new")),
        ("/dev/sda2", str(folder / "old")),
    ]


def test_a_secret_without_keys_is_refused(luks, tmp_path):
    with pytest.raises(PermanentError, match="holds none") as raised:
        hazards.keys_for([LuksKey(file="*")], tmp_path / "not-mounted", luks)
    assert raised.value.code == "luks-key"


def test_a_root_inside_a_luks_volume_has_the_name_of_the_opened_volume(luks, tmp_path):
    put(tmp_path / "luks.img", 10 * MIB + 168, b"0d15ea5e-0000-4000-8000-000000000001")
    found, _ = hazards.volumes([tmp_path / "luks.img"])
    assert root_device("/dev/sda2", found) == "/dev/mapper/luks-0d15ea5e-0000-4000-8000-000000000001"
    assert root_device("/dev/sda1", found) == "/dev/sda1"
    assert root_device("", found) == ""
