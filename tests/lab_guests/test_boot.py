"""A guest runs on VMware's hardware, and on virtio only when its initramfs knows virtio.

That one which knows virtio boots on virtio-blk and virtio-scsi is seen in `tests/lab_kubevirt`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.guests.boot import BOOT_LINE, BOOTS_LINE, NO_ROOT_LINE, PAYLOAD_LINE, Machine
from lab.guests.hardware import KUBEVIRT, VMWARE
from lab.guests.image import copy_image, guest_image
from lab.guests.spec import GuestSpec

pytestmark = pytest.mark.guest

WITH_DATA = GuestSpec(hostname="boot-test", payload_mb=4, data_mb=16, data_payload_mb=4)


def test_it_boots_on_vmware_hardware_goes_down_in_order_and_a_flipped_byte_in_its_payload_is_no_boot(
    tmp_path: Path,
) -> None:
    image = copy_image(guest_image(WITH_DATA), tmp_path)
    mac = "00:50:56:aa:bb:cc"
    with Machine(image.disks, VMWARE, macs=[mac]) as machine:
        found = machine.wait_for(BOOT_LINE, timeout_s=300)
        machine.wait_for(r"^boot-test login: ", timeout_s=300)
        machine.press_power_button()
        machine.wait_until_off(timeout_s=300)
        console = machine.text
    assert found.groupdict() == {"hostname": "boot-test", "disk": "vmw_pvscsi", "nic": "vmxnet3", "mac": mac}
    assert {match["path"]: match["sha256"] for match in PAYLOAD_LINE.finditer(console)} == image.payload
    assert [match["count"] for match in BOOTS_LINE.finditer(console)] == ["1"]
    assert "MTV-NIC ens192 " in console
    assert "MTV-SHUTDOWN-OK" in console

    assert image.data is not None
    _flip_a_byte_of_the_payload(image.data)
    with Machine(image.disks, VMWARE) as machine:
        machine.wait_for(r"login: ", timeout_s=300)
        console = machine.text
    assert [match["count"] for match in BOOTS_LINE.finditer(console)] == ["2"]
    assert "differs from its checksum" in console
    assert not BOOT_LINE.search(console)


def _flip_a_byte_of_the_payload(path: Path) -> None:
    content = path.read_bytes()
    # The payload is the only part of the disk that looks random: its last full block is far from all metadata.
    offset = next(
        place for place in range(len(content) - 4096, 0, -4096) if len(set(content[place : place + 4096])) > 200
    )
    with path.open("r+b") as disk:
        disk.seek(offset)
        disk.write(bytes([content[offset] ^ 1]))


def test_an_unconverted_guest_does_not_find_its_root_on_virtio() -> None:
    image = guest_image(WITH_DATA)
    with Machine(image.disks, KUBEVIRT, discard_writes=True) as machine:
        machine.wait_for(NO_ROOT_LINE, timeout_s=300)
        machine.wait_for(r"^\(initramfs\)", timeout_s=300)
        assert not BOOT_LINE.search(machine.text)
