"""Booting a powered-off VM's disks without changing them: ephemeral volumes over its claims, cable pulled."""

from __future__ import annotations

from typing import Any

import pytest

from lab.guests.image import GuestImage

pytestmark = [pytest.mark.lab, pytest.mark.guest]


def test_a_throw_away_boot_shows_the_guest_and_does_not_change_its_disk(target: Any, converted_guest: GuestImage):
    # A Block claim where the lab has them; Filesystem claims are seen in the wave of `tests/e2e`.
    mode = "Block" if target.classes["block"] else "Filesystem"
    target.claim("root", converted_guest.root, mode=mode)
    target.create_vm("web", volumes={"root": target.volume("root")}, run_strategy="Halted")
    before = target.checksum("root", mode=mode)
    target.create_instance(
        "web-check", volumes={"root": target.throw_away("root")}, interface={"state": "down"}, grace_s=1
    )
    console = target.wait_for_boot("web-check")
    assert "MTV-BOOT-OK converted disk-driver=virtio_blk" in console
    assert "MTV-BOOTS 1" in console  # the guest has written to its disk, as it does at each boot …
    assert target.instance("web-check")["status"]["interfaces"][0]["linkState"] == "down"
    target.kube.delete(target.path("VirtualMachineInstance", "web-check"))
    target.wait(lambda: not target.launcher_pods("web-check"), what="the check's pod to go")
    assert target.checksum("root", mode=mode) == before  # … and none of it has reached the claim
    assert target.vm_status("web") == "Stopped"
