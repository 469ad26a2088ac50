"""The life of VMs on the lab's KubeVirt: real admission, controller, scheduler and kubelet, a real guest in QEMU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lab.guests.image import GuestImage
from lab.kubevirt.kube import Refused

pytestmark = [pytest.mark.lab, pytest.mark.guest]


def test_a_converted_guest_boots_with_the_devices_of_its_spec_and_obeys_the_power_button(
    target: Any, converted_guest: GuestImage
):
    target.claim("root", converted_guest.root)
    card = {"macAddress": "02:00:00:aa:bb:01"}
    target.create_vm("web", volumes={"root": target.volume("root")}, interface=card, grace_s=120)
    console = target.wait_for_boot("web")
    assert "MTV-BOOT-OK converted disk-driver=virtio_blk nic=virtio_net mac=02:00:00:aa:bb:01" in console
    assert target.vm_status("web") == "Running"
    status = target.instance("web")["status"]
    assert status["interfaces"][0]["mac"] == "02:00:00:aa:bb:01"
    assert next(v for v in status["volumeStatus"] if v["name"] == "root")["target"] == "vda"
    assert {c["type"]: c["status"] for c in status["conditions"]}["Ready"] == "True"
    for digest in converted_guest.payload.values():
        assert digest in console

    pod = target.launcher_pods("web")[0]["metadata"]["name"]
    target.kube.merge(target.path("VirtualMachine", "web"), {"spec": {"runStrategy": "Halted"}})
    # Long before the grace period is over: the guest went down by itself.
    target.wait(lambda: target.vm_status("web") == "Stopped", what="web to stop", timeout_s=300)
    target.wait(lambda: not target.instance("web"), what="the instance to go")
    assert pod not in [pod["metadata"]["name"] for pod in target.launcher_pods("web")]


def test_the_stop_subresource_kills_a_deaf_guest_after_its_grace_period_and_start_brings_it_back(
    target: Any, no_system: Path
):
    target.claim("root", no_system)  # no operating system: nobody listens to the button
    target.create_vm("deaf", volumes={"root": target.volume("root")}, grace_s=2)
    target.wait(lambda: target.vm_status("deaf") == "Running", what="deaf to run")
    target.subresource("deaf", "stop")
    target.wait(lambda: target.vm_status("deaf") == "Stopped", what="deaf to stop", timeout_s=300)
    assert target.kube.get(target.path("VirtualMachine", "deaf"))["spec"]["runStrategy"] == "Halted"
    target.wait(lambda: not target.instance("deaf"), what="the instance to go")
    target.subresource("deaf", "start")
    target.wait(lambda: target.vm_status("deaf") == "Running", what="deaf to run again")


def test_a_broken_disk_is_running_yet_never_boots(target: Any, no_system: Path):
    target.claim("root", no_system)
    speaking_bios = {"firmware": {"bootloader": {"bios": {"useSerial": True}}}}
    target.create_vm("broken", volumes={"root": target.volume("root")}, domain=speaking_bios)
    target.wait(lambda: target.vm_status("broken") == "Running", what="broken to run")
    # The firmware has looked for an operating system and given up: only then is "no boot" more than "not yet".
    target.wait(lambda: "No bootable device" in target.console("broken"), what="the firmware to give up")
    assert target.vm_status("broken") == "Running"
    assert "MTV-BOOT-OK" not in target.console("broken")


def test_a_guest_boots_from_a_block_claim_on_bus_scsi(target: Any, converted_guest: GuestImage):
    if target.classes["block"] is None:
        pytest.skip("this lab has no storage class for Block claims (it needs root)")
    target.claim("root", converted_guest.root, mode="Block")
    target.create_vm("web", volumes={"root": target.volume("root")}, bus="scsi")
    assert "disk-driver=virtio_scsi" in target.wait_for_boot("web")


def test_deleting_a_running_vm_leaves_nothing_but_its_claim(target: Any, no_system: Path):
    target.claim("root", no_system)
    target.create_vm("gone", volumes={"root": target.volume("root")}, grace_s=1)
    target.wait(lambda: target.vm_status("gone") == "Running", what="gone to run")
    target.kube.delete(target.path("VirtualMachine", "gone"))
    target.wait(lambda: not target.kube.get(target.path("VirtualMachine", "gone")), what="the VM to go")
    target.wait(lambda: not target.instance("gone") and not target.launcher_pods("gone"), what="its pod to go")
    assert target.kube.get(target.path("PersistentVolumeClaim", "root"))["status"]["phase"] == "Bound"


def test_an_instance_that_cannot_run_fails_with_words_and_leaves_others_alone(target: Any, no_system: Path):
    target.claim("root", no_system)
    cloud_init = {"cloudInitNoCloud": {"userData": "#cloud-config\n"}}  # not supported by the stand-in
    target.create_instance("bad", volumes={"root": target.volume("root"), "seed": cloud_init})
    target.wait(lambda: target.phase("bad") == "Failed", what="bad to fail")
    events = target.kube.get(target.path("Event"))["items"]
    words = [e["message"] for e in events if e["involvedObject"]["name"] == "bad" and e["reason"] == "Stopped"]
    assert any("cloudInitNoCloud" in message for message in words)
    target.kube.delete(target.path("VirtualMachineInstance", "bad"))
    target.create_instance("good", volumes={"root": target.throw_away("root")})
    target.wait(lambda: target.phase("good") == "Running", what="good to run")


def test_a_wrong_vm_is_refused_by_the_real_admission(target: Any):
    with pytest.raises(Refused, match="unrecognized bus"):
        target.create_vm("wrong", volumes={"root": target.volume("root")}, bus="pvscsi")


def test_a_vm_whose_claim_is_missing_says_so(target: Any):
    target.create_vm("early", volumes={"root": target.volume("nowhere")})
    target.wait(lambda: target.vm_status("early") == "ErrorPvcNotFound", what="early to miss its claim")


def test_uefi_variables_of_a_vm_outlive_its_pods(target: Any, no_system: Path):
    target.claim("root", no_system)
    efi = {"firmware": {"bootloader": {"efi": {"secureBoot": False, "persistent": True}}}}
    target.create_vm("efi", volumes={"root": target.volume("root")}, domain=efi, run_strategy="Manual", grace_s=1)
    target.subresource("efi", "start")
    target.wait(lambda: target.vm_status("efi") == "Running", what="efi to run", timeout_s=300)
    claims = [claim["metadata"]["name"] for claim in target.kube.get(target.path("PersistentVolumeClaim"))["items"]]
    (state,) = [name for name in claims if name.startswith("persistent-state-for-efi")]
    assert "/nvram/efi_VARS.fd" in target.log("efi", "compute")
    target.subresource("efi", "stop")
    target.wait(lambda: not target.instance("efi"), what="efi to stop")
    assert "efi_VARS.fd" in target.run_pod("look", "ls /disk/nvram", claims={state: "Filesystem"})
