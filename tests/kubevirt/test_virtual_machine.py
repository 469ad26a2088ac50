from __future__ import annotations

import json
import subprocess
import uuid
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtv.kubevirt import labels
from mtv.kubevirt.devices import disk_serial
from mtv.kubevirt.virtual_machine import boot_proof_instance, cpu_topology, firmware_uuid, virtual_machine
from mtv.model.errors import PermanentError
from mtv.model.plan import NetworkTarget
from mtv.model.source import Firmware, SourceVm
from tests.kubevirt.values import APP, GIB, IGNORED, POD, disk, nic, source_vm, target_vm


def guest(vm: SourceVm, *networks: NetworkTarget, **changes: Any) -> dict[str, Any]:
    return virtual_machine(vm, target_vm(vm, *networks, **changes))["spec"]["template"]["spec"]


def test_a_machine_is_made_halted_and_carries_the_labels_down_to_its_pods() -> None:
    vm = source_vm()
    machine = virtual_machine(vm, target_vm(vm))
    assert machine["spec"]["runStrategy"] == "Halted"
    for carried in (machine["metadata"]["labels"], machine["spec"]["template"]["metadata"]["labels"]):
        assert carried[labels.PLAN] == "first"
        assert carried[labels.ROLE] == "target"
    assert machine["metadata"]["annotations"] == {labels.ORIGINAL_ID: "vm-42"}


def test_a_renamed_machine_keeps_its_original_name() -> None:
    vm = source_vm(name="Web 1 (old)")
    annotations = virtual_machine(vm, target_vm(vm))["metadata"]["annotations"]
    assert annotations[labels.ORIGINAL_NAME] == "Web 1 (old)"


@pytest.mark.parametrize(
    ("cpus", "cores", "expected"),
    [
        pytest.param(4, 2, (2, 2), id="two-sockets"),
        pytest.param(4, 4, (1, 4), id="one-socket"),
        pytest.param(6, 4, (6, 1), id="cores-that-do-not-divide"),
        pytest.param(3, 0, (3, 1), id="no-cores-said"),
    ],
)
def test_cpus_keep_their_topology(cpus: int, cores: int, expected: tuple[int, int]) -> None:
    found = cpu_topology(source_vm(cpu_count=cpus, cores_per_socket=cores))
    assert (found["sockets"], found["cores"]) == expected


@given(st.integers(1, 512), st.integers(-1, 512))
def test_no_topology_loses_a_cpu(cpus: int, cores: int) -> None:
    found = cpu_topology(source_vm(cpu_count=cpus, cores_per_socket=cores))
    assert found["sockets"] * found["cores"] * found["threads"] == cpus


@pytest.mark.parametrize(("size", "text"), [(2 * GIB, "2048Mi"), (GIB + 1, "1025Mi")])
def test_memory_is_never_less_than_on_the_source(size: int, text: str) -> None:
    assert guest(source_vm(memory_bytes=size))["domain"]["memory"] == {"guest": text}


@pytest.mark.parametrize("changes", [{"memory_bytes": 0}, {"cpu_count": 0}])
def test_a_machine_without_memory_or_cpu_is_refused(changes: dict[str, int]) -> None:
    with pytest.raises(PermanentError, match="web-1"):
        guest(source_vm(**changes))


def test_disks_are_virtio_in_the_sources_order_and_the_root_boots_first() -> None:
    vm = source_vm(disks=(disk(1), disk(0), disk(2, shared=True)))
    made = guest(vm, root_disk="disk-2001")
    disks = {entry["name"]: entry for entry in made["domain"]["devices"]["disks"]}
    assert list(disks) == ["vol-0", "vol-1", "vol-2"]
    assert all(entry["disk"] == {"bus": "virtio"} for entry in disks.values())
    assert [name for name, entry in disks.items() if "bootOrder" in entry] == ["vol-1"]
    assert disks["vol-2"]["shareable"] is True
    assert disks["vol-2"]["cache"] == "none"
    assert [v["persistentVolumeClaim"]["claimName"] for v in made["volumes"]] == [
        f"first-web-1-disk-{index}" for index in range(3)
    ]


def test_a_raw_copy_keeps_devices_that_the_guest_knows() -> None:
    devices = guest(source_vm(), raw=True)["domain"]["devices"]
    assert {entry["disk"]["bus"] for entry in devices["disks"]} == {"sata"}
    assert {entry["model"] for entry in devices["interfaces"]} == {"e1000e"}
    assert devices["inputs"][0]["bus"] == "usb"


def test_a_disk_without_a_claim_is_refused() -> None:
    with pytest.raises(PermanentError, match="disk-2001 has no claim"):
        guest(source_vm(), claims={"disk-2000": "c"})


def test_a_machine_without_disks_is_refused() -> None:
    with pytest.raises(PermanentError, match="boot from"):
        guest(source_vm(disks=()))


def test_cards_keep_their_mac_and_go_where_the_map_says() -> None:
    vm = source_vm(nics=(nic(0), nic(1, network="dvpg-app"), nic(2, connected=False)))
    made = guest(vm, POD, APP, NetworkTarget(type="multus", name="demo/other"))
    assert made["domain"]["devices"]["interfaces"] == [
        {"name": "net-0", "model": "virtio", "masquerade": {}, "macAddress": "00:50:56:aa:00:01"},
        {"name": "net-1", "model": "virtio", "bridge": {}, "macAddress": "00:50:56:aa:00:02"},
        {"name": "net-2", "model": "virtio", "bridge": {}, "macAddress": "00:50:56:aa:00:03", "state": "down"},
    ]
    assert made["networks"] == [
        {"name": "net-0", "pod": {}},
        {"name": "net-1", "multus": {"networkName": "demo/app-net"}},
        {"name": "net-2", "multus": {"networkName": "demo/other"}},
    ]


def test_a_machine_whose_cards_are_all_ignored_gets_none_rather_than_one_on_the_pod_network() -> None:
    made = guest(source_vm(), IGNORED)
    assert made["domain"]["devices"]["autoattachPodInterface"] is False
    assert "networks" not in made


@pytest.mark.parametrize(("target", "words"), [(POD, "the pod network"), (APP, "demo/app-net")])
def test_a_second_card_on_one_network_is_refused(target: NetworkTarget, words: str) -> None:
    with pytest.raises(PermanentError, match=words):
        guest(source_vm(nics=(nic(0), nic(1))), target, target)


def test_multus_without_a_name_is_refused() -> None:
    with pytest.raises(PermanentError, match="without a name"):
        guest(source_vm(), NetworkTarget(type="multus"))


def test_a_mac_that_is_none_is_refused() -> None:
    with pytest.raises(PermanentError, match="MAC"):
        guest(source_vm(nics=(nic(0, mac="00:50:56:zz:00:01"),)))


@pytest.mark.parametrize(
    ("changes", "bootloader", "smm"),
    [
        ({}, {"bios": {}}, False),
        ({"firmware": Firmware.EFI}, {"efi": {"secureBoot": False}}, False),
        ({"firmware": Firmware.EFI, "secure_boot": True}, {"efi": {"secureBoot": True}}, True),
    ],
)
def test_firmware_is_kept(changes: dict[str, Any], bootloader: dict[str, Any], smm: bool) -> None:
    domain = guest(source_vm(**changes))["domain"]
    assert domain["firmware"]["bootloader"] == bootloader
    assert ("smm" in domain["features"]) is smm


@given(st.text(max_size=40))
def test_the_firmware_uuid_is_always_one_and_always_the_same(text: str) -> None:
    vm = source_vm(uuid=text)
    assert str(uuid.UUID(firmware_uuid(vm))) == firmware_uuid(vm) == firmware_uuid(vm)


def test_a_valid_uuid_is_kept() -> None:
    assert firmware_uuid(source_vm()) == "4203a1b2-0000-4000-8000-000000000001"


@given(st.text(max_size=60))
def test_a_serial_is_short_and_safe(text: str) -> None:
    serial = disk_serial(source_vm(), disk(serial=text))
    assert 0 < len(serial) <= 20
    assert all(char.isascii() and (char.isalnum() or char in "_.-") for char in serial)


def test_a_tpm_is_kept_only_where_there_was_one() -> None:
    assert guest(source_vm(tpm=True))["domain"]["devices"]["tpm"] == {"persistent": True}
    assert "tpm" not in guest(source_vm())["domain"]["devices"]


def test_a_throw_away_boot_changes_no_claim_and_touches_no_network() -> None:
    vm = source_vm(tpm=True)
    machine = virtual_machine(vm, target_vm(vm))
    before = json.dumps(machine)
    instance = boot_proof_instance(machine, {"mtv/role": "boot-proof"})
    assert json.dumps(machine) == before
    spec = instance["spec"]
    assert [next(iter(volume.keys() - {"name"})) for volume in spec["volumes"]] == ["ephemeral", "ephemeral"]
    assert "networks" not in spec
    assert "interfaces" not in spec["domain"]["devices"]
    assert spec["domain"]["devices"]["autoattachPodInterface"] is False
    assert spec["domain"]["devices"]["tpm"] == {}
    assert instance["metadata"]["name"] == "web-1-boot-proof"


KINDS = {
    "plain": (source_vm(), (POD,), {}),
    "raw": (source_vm(), (POD,), {"raw": True}),
    "efi": (source_vm(firmware=Firmware.EFI), (POD,), {}),
    "secure-boot-and-tpm": (source_vm(firmware=Firmware.EFI, secure_boot=True, tpm=True), (POD,), {}),
    "two-cards-one-down": (source_vm(nics=(nic(0), nic(1, connected=False))), (POD, APP), {}),
    "no-card": (source_vm(nics=()), (), {}),
    "ignored-card": (source_vm(), (IGNORED,), {}),
    "shared-disk": (source_vm(disks=(disk(0), disk(1, shared=True, serial="a b/c"))), (POD,), {}),
    "odd-name": (source_vm(name="Web 1 (old)", uuid="none"), (POD,), {}),
    "odd-cpus": (source_vm(cpu_count=6, cores_per_socket=4), (POD,), {}),
    "kvm-guest": (
        source_vm(
            provider="ovirt",
            cpu_count=8,
            threads_per_core=2,
            timezone="Europe/Berlin",
            serial="SN-7",
            disks=tuple(
                disk(index, bus=bus, serial=f"6f2d3c1e-9d5a-4a7b-8f00-00000000000{index}")
                for index, bus in enumerate(("scsi", "sata", "ide", "virtio"))
            ),
            nics=(nic(0, model="rtl8139"), nic(1, model="e1000")),
        ),
        (POD, APP),
        {},
    ),
    "pinned-kvm-guest": (
        source_vm(provider="ovirt", dedicated_cpus=True, nics=(nic(0, model="pci_passthrough"),)),
        (APP,),
        {},
    ),
    "unplugged-card-of-the-hosts-hardware": (
        source_vm(provider="ovirt", nics=(nic(0, model="pci_passthrough", connected=False),)),
        (APP,),
        {},
    ),
}


@pytest.mark.lab
def test_kubevirts_own_admission_accepts_every_machine(tmp_path: Path) -> None:
    from lab.kubevirt.binary import binary

    for name, (vm, networks, changes) in KINDS.items():
        target = target_vm(vm, *networks, **changes)
        (tmp_path / f"{name}.yaml").write_text(json.dumps(virtual_machine(vm, target)))
    files = sorted(str(path) for path in tmp_path.glob("*.yaml"))
    done = subprocess.run([str(binary()), "check", *files], capture_output=True, text=True, timeout=300, check=False)
    verdicts = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(verdicts) == len(KINDS), done.stderr
    refused = [verdict for verdict in verdicts if not verdict["allowed"]]
    assert not refused
