"""The OVA is what it claims to be, and each spoilt copy has exactly its one fault."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from lab.guests.image import guest_image
from lab.ova import broken
from lab.ova.descriptor import OvfDisk, OvfMachine, descriptor
from lab.ova.package import write_ova
from lab.ova.part import GUEST, app_ova


@pytest.fixture(scope="module")
def ova(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small OVA of two disks with random-looking content."""
    folder = tmp_path_factory.mktemp("ova")
    for number in (1, 2):
        (folder / f"disk{number}.raw").write_bytes(hashlib.shake_256(bytes([number])).digest(1 << 20))
    write_ova(folder / "small.ova", OvfMachine("small"), [folder / "disk1.raw", folder / "disk2.raw"])
    return folder / "small.ova"


def members(ova: Path) -> dict[str, bytes]:
    found = {}
    with tarfile.open(ova) as archive:
        for member in archive:
            content = archive.extractfile(member)
            assert content is not None
            found[member.name] = content.read()
    return found


def differing(ova: Path) -> set[str]:
    """Members whose content is not what the manifest says."""
    found = members(ova)
    manifest = next(content for name, content in found.items() if name.endswith(".mf")).decode()
    sums = dict(re.findall(r"^SHA256\((.+)\)= ([0-9a-f]{64})$", manifest, re.MULTILINE))
    return {
        name for name, digest in sums.items() if name in found and hashlib.sha256(found[name]).hexdigest() != digest
    }


def test_members_come_in_the_order_of_an_export(ova: Path) -> None:
    assert list(members(ova)) == ["small.ovf", "small.mf", "small-disk1.vmdk", "small-disk2.vmdk"]


def test_the_manifest_is_right(ova: Path) -> None:
    assert differing(ova) == set()


def test_disks_are_stream_optimized_and_hold_the_raw_bytes(ova: Path, tmp_path: Path) -> None:
    for number in (1, 2):
        vmdk, raw = tmp_path / f"{number}.vmdk", tmp_path / f"{number}.raw"
        vmdk.write_bytes(members(ova)[f"small-disk{number}.vmdk"])
        about = json.loads(subprocess.check_output(["qemu-img", "info", "--output=json", str(vmdk)]))
        assert about["format-specific"]["data"]["create-type"] == "streamOptimized"
        subprocess.run(["qemu-img", "convert", "-O", "raw", str(vmdk), str(raw)], check=True)
        assert raw.read_bytes() == (ova.parent / f"disk{number}.raw").read_bytes()


def test_the_descriptor_escapes_names() -> None:
    xml = descriptor(OvfMachine('a<b&"c'), (OvfDisk("d.vmdk", 1, 2),))
    root = ET.fromstring(xml)  # noqa: S314 - our own text
    assert root.findtext(".//{http://schemas.dmtf.org/ovf/envelope/1}Name") == 'a<b&"c'


@pytest.mark.parametrize(
    ("spoil", "missing", "wrong"),
    [
        (broken.wrong_manifest, set(), {"small-disk1.vmdk", "small-disk2.vmdk"}),
        (broken.missing_disk, {"small-disk1.vmdk", "small-disk2.vmdk"}, set()),
        (broken.missing_descriptor, {"small.ovf"}, set()),
        (broken.flipped_bit, set(), {"small-disk1.vmdk"}),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_spoilt_copy_has_its_one_fault(
    ova: Path, tmp_path: Path, spoil: Callable[[Path, Path], None], missing: set[str], wrong: set[str]
) -> None:
    spoil(ova, tmp_path / "bad.ova")
    assert set(members(ova)) - set(members(tmp_path / "bad.ova")) == missing
    assert differing(tmp_path / "bad.ova") == wrong


def test_a_truncated_copy_cannot_be_read_to_its_end(ova: Path, tmp_path: Path) -> None:
    broken.truncated(ova, tmp_path / "bad.ova")
    with pytest.raises(tarfile.ReadError):
        members(tmp_path / "bad.ova")


def test_a_copy_without_manifest_has_all_else(ova: Path, tmp_path: Path) -> None:
    broken.missing_manifest(ova, tmp_path / "bad.ova")
    assert set(members(ova)) - set(members(tmp_path / "bad.ova")) == {"small.mf"}


def test_the_demo_ova_holds_the_guest(tmp_path: Path) -> None:
    vmdk, raw = tmp_path / "disk.vmdk", tmp_path / "disk.raw"
    vmdk.write_bytes(members(app_ova())["app-1-disk1.vmdk"])
    subprocess.run(["qemu-img", "convert", "-O", "raw", str(vmdk), str(raw)], check=True)
    assert raw.read_bytes() == guest_image(GUEST).root.read_bytes()
