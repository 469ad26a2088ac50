"""What becomes of guests that ran on KVM before: they keep the devices that they have drivers for."""

from __future__ import annotations

from typing import Any

import pytest

from mtv.kubevirt.virtual_machine import cpu_topology, virtual_machine
from mtv.model.plan import NetworkTarget
from mtv.model.source import SourceVm
from tests.kubevirt.values import APP, POD, disk, nic, source_vm, target_vm

UUID = "6f2d3c1e-9d5a-4a7b-8f00-000000000042"


def guest(vm: SourceVm, *networks: NetworkTarget, raw: bool = False) -> dict[str, Any]:
    return virtual_machine(vm, target_vm(vm, *networks, raw=raw))["spec"]["template"]["spec"]["domain"]


def kvm_vm(**changes: Any) -> SourceVm:
    return source_vm(provider="ovirt", **changes)


@pytest.mark.parametrize("raw", [False, True], ids=["converted-by-default", "raw"])
@pytest.mark.parametrize(
    ("bus", "kept"), [("scsi", "scsi"), ("sata", "sata"), ("ide", "sata"), ("virtio", "virtio"), ("other", "virtio")]
)
def test_a_disk_keeps_its_bus_as_far_as_there_is_one(bus: str, kept: str, raw: bool) -> None:
    devices = guest(kvm_vm(disks=(disk(0, bus=bus),)), raw=raw)["devices"]
    assert devices["disks"][0]["disk"] == {"bus": kept}
    assert devices["inputs"][0]["bus"] == "virtio"


def test_a_disk_keeps_its_whole_serial() -> None:
    (found,) = guest(kvm_vm(disks=(disk(0, serial=UUID),)))["devices"]["disks"]
    assert found["serial"] == UUID


@pytest.mark.parametrize(
    ("model", "kept"),
    [("virtio", "virtio"), ("e1000", "e1000"), ("rtl8139", "rtl8139"), ("rtl8139_virtio", "virtio"), ("?", "virtio")],
)
def test_a_card_keeps_its_model_as_far_as_there_is_one(model: str, kept: str) -> None:
    (card,) = guest(kvm_vm(nics=(nic(0, model=model),)), POD)["devices"]["interfaces"]
    assert (card["model"], card["macAddress"]) == (kept, "00:50:56:aa:00:01")


def test_a_card_of_the_hosts_hardware_becomes_one_of_the_nodes_where_a_network_offers_it() -> None:
    vm = kvm_vm(nics=(nic(0, model="pci_passthrough", connected=False), nic(1, model="pci_passthrough")))
    passed, plain = guest(vm, APP, POD)["devices"]["interfaces"]
    assert passed["sriov"] == {}
    assert not {"model", "bridge", "state"} & set(passed), "KubeVirt refuses a state of such a card"
    assert plain["model"] == "virtio"
    assert plain["masquerade"] == {}


def test_threads_pinning_serial_number_and_time_zone_are_kept() -> None:
    vm = kvm_vm(cpu_count=8, cores_per_socket=2, threads_per_core=2, dedicated_cpus=True, serial="SN-7")
    domain = guest(vm)
    assert domain["cpu"] == {"sockets": 2, "cores": 2, "threads": 2, "dedicatedCpuPlacement": True}
    assert domain["firmware"]["serial"] == "SN-7"
    assert domain["clock"] == {"utc": {}}
    assert guest(kvm_vm(timezone="Europe/Berlin"))["clock"] == {"timezone": "Europe/Berlin"}


def test_numbers_that_do_not_divide_lose_no_cpu() -> None:
    assert cpu_topology(kvm_vm(cpu_count=6, cores_per_socket=2, threads_per_core=2)) == {
        "sockets": 6,
        "cores": 1,
        "threads": 1,
    }
