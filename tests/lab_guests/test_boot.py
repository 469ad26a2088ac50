"""A guest runs on VMware's hardware, and on virtio only when its initramfs knows virtio."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.guests.boot import BOOT_LINE, BOOTS_LINE, NO_ROOT_LINE, PAYLOAD_LINE, Machine
from lab.guests.hardware import KUBEVIRT, VMWARE, Bus, Card, Hardware
from lab.guests.image import copy_image, guest_image
from lab.guests.spec import GuestSpec

pytestmark = pytest.mark.guest

WITH_DATA = GuestSpec(hostname="boot-test", payload_mb=4, data_mb=16, data_payload_mb=4)


def test_it_boots_on_vmware_hardware_with_its_payload_and_goes_down_in_order(tmp_path: Path) -> None:
    image = copy_image(guest_image(WITH_DATA), tmp_path)
    mac = "00:50:56:aa:bb:cc"
    for boots in ("1", "2"):
        with Machine(image.disks, VMWARE, macs=[mac]) as machine:
            found = machine.wait_for(BOOT_LINE, timeout_s=120)
            machine.wait_for(r"^boot-test login: ", timeout_s=60)
            machine.press_power_button()
            machine.wait_until_off(timeout_s=60)
            console = machine.text
        assert found.groupdict() == {"hostname": "boot-test", "disk": "vmw_pvscsi", "nic": "vmxnet3", "mac": mac}
        assert {match["path"]: match["sha256"] for match in PAYLOAD_LINE.finditer(console)} == image.payload
        assert [match["count"] for match in BOOTS_LINE.finditer(console)] == [boots]
        assert "MTV-NIC ens192 " in console
        assert "MTV-SHUTDOWN-OK" in console


def test_a_flipped_byte_in_the_payload_is_no_boot(tmp_path: Path) -> None:
    image = copy_image(guest_image(WITH_DATA), tmp_path)
    assert image.data is not None
    content = image.data.read_bytes()
    # The payload is the only part of the disk that looks random: its last full block is far from all metadata.
    offset = next(
        place for place in range(len(content) - 4096, 0, -4096) if len(set(content[place : place + 4096])) > 200
    )
    with image.data.open("r+b") as disk:
        disk.seek(offset)
        disk.write(bytes([content[offset] ^ 1]))
    with Machine(image.disks, VMWARE) as machine:
        machine.wait_for(r"login: ", timeout_s=120)
        console = machine.text
    assert "differs from its checksum" in console
    assert not BOOT_LINE.search(console)


def test_an_unconverted_guest_does_not_find_its_root_on_virtio() -> None:
    image = guest_image(WITH_DATA)
    with Machine(image.disks, KUBEVIRT, discard_writes=True) as machine:
        machine.wait_for(NO_ROOT_LINE, timeout_s=120)
        machine.wait_for(r"^\(initramfs\)", timeout_s=30)
        assert not BOOT_LINE.search(machine.text)


@pytest.mark.parametrize(
    ("bus", "driver"), [(Bus.VIRTIO, "virtio_blk"), (Bus.VIRTIO_SCSI, "virtio_scsi")], ids=["virtio-blk", "virtio-scsi"]
)
def test_a_guest_made_with_virtio_boots_on_it(bus: Bus, driver: str) -> None:
    image = guest_image(GuestSpec(hostname="virtio-test", payload_mb=4, virtio=True))
    with Machine(image.disks, Hardware(bus, Card.VIRTIO), discard_writes=True) as machine:
        found = machine.wait_for(BOOT_LINE, timeout_s=120)
    assert (found["disk"], found["nic"]) == (driver, "virtio_net")
