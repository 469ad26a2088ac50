"""Images are made without root and follow from their spec."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from lab.guests.image import copy_image, guest_image
from lab.guests.spec import GuestSpec
from lab.guests.tree import write_payload
from mtv.model.errors import PermanentError

SMALL = GuestSpec(hostname="image-test", payload_mb=4)


def test_the_same_spec_gives_the_same_cached_image() -> None:
    assert guest_image(SMALL).root == guest_image(SMALL).root


def test_a_copy_is_private_and_equal(tmp_path: Path) -> None:
    original = guest_image(SMALL)
    copy = copy_image(original, tmp_path)
    assert copy.root != original.root
    assert copy.root.read_bytes() == original.root.read_bytes()


def test_the_payload_follows_from_its_seed_only(tmp_path: Path) -> None:
    first = write_payload(tmp_path / "a", 2, "seed")
    assert write_payload(tmp_path / "b", 2, "seed") == first
    assert write_payload(tmp_path / "c", 2, "other") != first


def test_the_root_file_system_is_clean_and_holds_the_payload(tmp_path: Path) -> None:
    image = guest_image(SMALL)
    filesystem = tmp_path / "root.fs"
    with image.root.open("rb") as disk, filesystem.open("wb") as out:
        disk.seek(1 << 20)
        out.write(disk.read())
    checked = subprocess.run(["e2fsck", "-fn", str(filesystem)], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout
    listing = subprocess.run(
        ["debugfs", "-R", "ls -p /srv/data", str(filesystem)], capture_output=True, text=True, check=True
    ).stdout
    assert all(Path(path).name in listing for path in image.payload)


def test_an_encrypted_root_shows_nothing_and_is_opened_by_its_own_key_only(tmp_path: Path) -> None:
    spec = GuestSpec(hostname="vault-1", root_mb=288, payload_mb=4, encrypted=True)
    image = guest_image(spec)
    table = subprocess.run(["sfdisk", "--json", str(image.root)], capture_output=True, text=True, check=True).stdout
    boot, root = json.loads(table)["partitiontable"]["partitions"]
    content = image.root.read_bytes()
    volume = tmp_path / "root.luks"
    volume.write_bytes(content[root["start"] * 512 : (root["start"] + root["size"]) * 512])
    assert b"MTV-BOOT-OK" not in volume.read_bytes(), "the guest's own script is there to be read"
    assert spec.luks_key.encode() not in volume.read_bytes()
    assert content[boot["start"] * 512 + 1080 :][:2] == b"\x53\xef", "GRUB has no file system to read"
    argv = ["/usr/sbin/cryptsetup", "open", "--test-passphrase", "--disable-locks", "--key-file", "-", str(volume)]
    codes = [
        subprocess.run(argv, input=key.encode(), capture_output=True, check=False).returncode
        for key in (spec.luks_key, "another")
    ]
    assert codes == [0, 2]


def test_a_root_disk_that_is_too_small_says_so() -> None:
    with pytest.raises(PermanentError, match="file system"):
        guest_image(GuestSpec(hostname="small-test", root_mb=24, payload_mb=4))
