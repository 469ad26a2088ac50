"""The oVirt provider's inventory of the lab's engine, and the rules over it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from ovirtsdk4 import types

from mtv.inventory import snapshot
from mtv.model.source import Firmware, PowerState, SourceVm
from mtv.providers.ovirt.build import build_vms, power_state
from mtv.providers.ovirt.collect import Around, Found
from mtv.providers.ovirt.devices import disk_attachments
from mtv.providers.ovirt.surroundings import Surroundings
from mtv.providers.registry import open_provider
from mtv.validation import load_rules
from mtv.validation.firing import firings
from tests.providers.rule_attributes import condition_paths, values_at

RULES = Path(__file__).parents[2] / "include" / "validation_rules"


# -- what is read


def test_check_says_what_answered(to_ovirt):
    with open_provider(to_ovirt()) as provider:
        assert provider.check() == "oVirt Engine 4.5.6-1.el9"


def test_a_vm_is_read_whole(ovirt_inventory):
    vm = ovirt_inventory["web-1"]
    assert (vm.provider, vm.uuid) == ("ovirt", vm.id)
    assert (vm.cpu_count, vm.cores_per_socket, vm.threads_per_core) == (8, 2, 2)
    assert (vm.firmware, vm.secure_boot, vm.tpm) == (Firmware.EFI, True, True)
    assert (vm.memory_bytes, vm.host, vm.timezone) == (2 << 30, "ovirt-1.lab", "Europe/Berlin")
    assert vm.guest_os == "Red Hat Enterprise Linux 9.4"
    assert vm.is_kvm_guest
    document = vm.document
    assert document["path"] == "dc1/cluster1/web-1"
    assert document["cluster"]["dataCenter"] == {"id": "dc-1", "name": "dc1"}
    assert document["host"]["cluster"]["name"] == "cluster1"
    assert document["hostName"] == "web-1.example.test"
    assert document["guestApps"] == ["qemu-guest-agent-8.2"]
    assert document["cdroms"] == [{"id": "cd-1", "file": "virtio-win.iso"}]
    assert document["diskAttachments"][0]["disk"]["profile"] == {"id": "dp-gold", "name": "gold-profile"}
    assert document["diskAttachments"][0]["disk"]["storageDomain"]["storage"] == {"type": "nfs"}
    assert document["unreadable"] == []


def test_the_bootable_disk_comes_first_and_the_others_as_people_count(ovirt_inventory):
    disks = ovirt_inventory["web-1"].disks
    names = [row["disk"]["name"] for row in ovirt_inventory["web-1"].document["diskAttachments"]]
    assert names == ["web-1_Disk1", "web-1_Disk2", "web-1_Disk10"]
    assert [(disk.bus, disk.size_bytes >> 30, disk.storage) for disk in disks] == [
        ("scsi", 8, "gold"),
        ("virtio", 2, "silver"),
        ("sata", 1, "gold"),
    ]
    assert [disk.serial for disk in disks] == [disk.id for disk in disks]


def test_cards_know_their_network_address_and_profile(ovirt_inventory):
    vm = ovirt_inventory["web-1"]
    assert [(nic.network, nic.mac, nic.model, nic.connected) for nic in vm.nics] == [
        ("ovirtmgmt", "56:6f:00:00:00:01", "virtio", True),
        ("app", "56:6f:00:00:00:02", "e1000", True),
    ]
    assert [card["ipAddress"] for card in vm.document["nics"]] == [["10.0.0.11", "fe80::1"], []]
    odd = ovirt_inventory["odd_1"].document["nics"][0]["profile"]
    assert (odd["networkFilter"], odd["qos"], odd["passThrough"]) == ("vdsm-no-mac-spoofing", "qos-1", True)
    assert ovirt_inventory["odd_1"].nics[0].connected is False


def test_a_cluster_s_firmware_is_what_a_vm_without_its_own_has(ovirt_inventory):
    assert ovirt_inventory["off-1"].document["bios"] == "q35_ovmf"
    assert ovirt_inventory["off-1"].firmware is Firmware.EFI


def test_a_lun_has_the_size_of_its_unit(ovirt_inventory):
    lun = next(disk for disk in ovirt_inventory["lun-1"].disks if disk.locator["storage_type"] == "lun")
    assert lun.size_bytes == 4 << 30


def test_windows_gets_a_tpm_and_its_zone_by_the_name_that_others_know(ovirt_inventory):
    odd = ovirt_inventory["odd_1"]
    assert (odd.tpm, odd.timezone, odd.serial) == (True, "Europe/London", "SN-7")
    assert odd.document["timezone"] == "GMT Standard Time"


def test_every_vm_can_be_kept_as_json(ovirt_inventory):
    vms = list(ovirt_inventory.values())
    assert msgspec.json.decode(msgspec.json.encode(vms), type=list[SourceVm]) == vms


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("down", PowerState.OFF),
        ("up", PowerState.ON),
        ("powering_down", PowerState.ON),
        ("migrating", PowerState.ON),
        ("paused", PowerState.SUSPENDED),
        ("suspended", PowerState.SUSPENDED),
        ("image_locked", PowerState.UNKNOWN),
        (None, PowerState.UNKNOWN),
    ],
)
def test_an_engine_s_status_means(status, state):
    assert power_state(status) is state


def test_a_vm_of_which_an_engine_says_hardly_anything_is_read_too():
    bare = types.Vm(
        id="v", name="bare", disk_attachments=[types.DiskAttachment(id="d")], nics=[types.Nic(id="n", name="nic1")]
    )
    (vm,) = build_vms([Found(bare)], Surroundings(Around({})))
    assert (vm.power, vm.cpu_count, vm.firmware, vm.memory_bytes) == (PowerState.UNKNOWN, 1, Firmware.BIOS, 0)
    assert [(disk.id, disk.size_bytes, disk.storage) for disk in vm.disks] == [("d", 0, "")]
    assert [(nic.network, nic.mac, nic.connected) for nic in vm.nics] == [("", "", False)]
    assert {"ovirt.disk.storage_type.unsupported", "ovirt.disk.capacity.invalid"} <= concern_ids(vm)


@pytest.mark.parametrize(("told", "active"), [(True, True), (False, False), (None, True)])
def test_only_a_disk_that_the_engine_calls_inactive_is_deactivated(told, active):
    (row,) = disk_attachments([types.DiskAttachment(id="d", active=told)], Surroundings(Around({})))
    assert row["active"] is active


def test_a_deactivated_disk_comes_behind_those_that_the_guest_has_even_if_it_could_be_booted_from():
    found = [
        types.DiskAttachment(id=name, active=active, bootable=bootable, disk=types.Disk(id=name, name=name))
        for name, active, bootable in (("a-clone", False, True), ("b-data", True, False), ("c-root", True, True))
    ]
    rows = disk_attachments(found, Surroundings(Around({})))
    assert [row["id"] for row in rows] == ["c-root", "b-data", "a-clone"]


# -- the rules over the live inventory


def concern_ids(vm):
    return {firing.rule.id for firing in firings(load_rules(RULES, "ovirt"), [vm.document]) if firing.concerns}


def test_no_attribute_that_a_rule_reads_is_missing_from_the_inventory(ovirt_inventory):
    rules = load_rules(RULES, "ovirt")
    assert len(rules.rules) >= 39
    read = {path for rule in rules.rules for path in condition_paths(rule)}
    assert ("diskAttachments", "disk", "lun", "logicalUnits", "logicalUnit", "size") in read
    missing = {path for path in read if not any(values_at(vm.document, path) for vm in ovirt_inventory.values())}
    assert missing == set()


def test_no_rule_is_undefined_for_any_vm(ovirt_inventory):
    for firing in firings(load_rules(RULES, "ovirt"), [vm.document for vm in ovirt_inventory.values()]):
        assert all(firing.known), firing.rule.id


def test_every_rule_speaks_of_the_odd_vms_and_hardly_any_of_a_plain_one(ovirt_inventory):
    rules = load_rules(RULES, "ovirt")
    said = {name: concern_ids(ovirt_inventory[name]) for name in ("odd_1", "lun-1", "old-1", "web-1", "off-1")}
    assert {rule.id for rule in rules.rules} - said["odd_1"] - said["lun-1"] - said["old-1"] == set()
    assert said["web-1"] == {"ovirt.secure_boot.detected"}
    assert said["off-1"] == set()


# -- how it is read


def test_the_whole_inventory_takes_more_than_one_page_and_few_requests(to_ovirt, ovirt):
    with open_provider(to_ovirt()) as provider:
        vms = provider.vms()
    assert sum(vm.name.startswith("load-") for vm in vms) == 120
    pages = [request for request in ovirt.requests if request.startswith("GET vms?")]
    assert len(pages) == 2
    assert len(ovirt.requests) == 12  # 7 kinds around, 2 totals, 2 pages, the NUMA nodes of the one pinned VM


def test_a_named_reading_equals_the_whole_one(to_ovirt, ovirt_inventory):
    with open_provider(to_ovirt()) as provider:
        assert provider.vms(["off-1"]) == [ovirt_inventory["off-1"]]


def test_what_no_vm_uses_is_listed_too(to_ovirt):
    with open_provider(to_ovirt()) as provider:
        seen = snapshot(provider)
        named = snapshot(provider, ["off-1"])
    used = {vm.host for vm in seen.vms}
    hosts = seen.tables.hosts.set_index("name")
    assert "ovirt-2.lab" not in used
    assert set(hosts.index) == {"ovirt-1.lab", "ovirt-2.lab", "ovirt-3.lab"}
    assert (hosts.loc["ovirt-2.lab", "cluster_id"], hosts.loc["ovirt-2.lab", "in_maintenance"]) == ("cl-1", True)
    assert set(seen.tables.clusters["name"]) == {"cluster1", "cluster2"}
    datastores = seen.tables.datastores.set_index("name")
    assert set(datastores.index) >= {"gold", "silver"}
    assert datastores.loc["silver", ["capacity_bytes", "free_bytes"]].tolist() == [1000 << 30, 900 << 30]
    assert seen.tables.networks.set_index("name").loc["app", "vlan"] == "20"
    assert named.listed == (), "a reading of some VMs is no inventory"


def test_unknown_names_wildcards_and_another_case_are_absent(to_ovirt):
    with open_provider(to_ovirt()) as provider:
        assert [vm.name for vm in provider.vms(["off-1", "no-such-vm", "web*", 'a" or name="web-1', "OLD-1"])] == [
            "off-1"
        ]
        assert provider.vms([]) == []


def test_many_names_are_asked_for_in_pieces(to_ovirt):
    wanted = [f"load-{number:03d}" for number in range(45)]
    with open_provider(to_ovirt()) as provider:
        assert [vm.name for vm in provider.vms(wanted)] == wanted


def test_two_vms_of_one_name_both_come_and_are_told_apart_by_their_paths(to_ovirt):
    with open_provider(to_ovirt()) as provider:
        found = provider.vms(["twice", "off-1"])
    assert [vm.document["path"] for vm in found] == [
        "dc1/cluster1/off-1",
        "dc1/cluster1/twice",
        "dc2/cluster2/twice",
    ]
