"""virt-v2v takes the guest for a Debian and makes it boot on virtio; a full root disk is refused."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from lab.guests.boot import BOOT_LINE, PAYLOAD_LINE, Machine
from lab.guests.hardware import KUBEVIRT
from lab.guests.image import copy_image, guest_image
from lab.guests.spec import GuestSpec

Convert = Callable[[Sequence[Path]], "subprocess.CompletedProcess[str]"]

pytestmark = [pytest.mark.guest, pytest.mark.convert]


def test_a_converted_guest_boots_on_virtio_with_its_payload(tmp_path: Path, convert: Convert) -> None:
    image = copy_image(
        guest_image(GuestSpec(hostname="convert-test", payload_mb=4, data_mb=32, data_payload_mb=4)), tmp_path
    )
    done = convert(image.disks)
    assert done.returncode == 0, done.stderr
    with Machine(image.disks, KUBEVIRT) as machine:
        found = machine.wait_for(BOOT_LINE, timeout_s=120)
        console = machine.text
    assert (found["disk"], found["nic"]) == ("virtio_blk", "virtio_net")
    assert {match["path"]: match["sha256"] for match in PAYLOAD_LINE.finditer(console)} == image.payload


def test_a_full_root_disk_is_refused_for_lack_of_space(tmp_path: Path, convert: Convert) -> None:
    image = copy_image(guest_image(GuestSpec(hostname="full-test", payload_mb=4, full=True)), tmp_path)
    done = convert(image.disks)
    assert done.returncode != 0
    assert "not enough free space" in done.stderr
