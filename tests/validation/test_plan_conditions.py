"""What a plan asks of its VMs, on both sides of each condition."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from mtv.model.concern import Category
from mtv.model.plan import NetworkTarget, Plan, PlannedVm, StorageTarget, VmOptions, Wave
from mtv.model.source import SourceNic, SourceVm
from mtv.validation import conditions, for_vm
from tests.validation import wave_values
from tests.validation.wave_values import POD, disk, seen

APP = NetworkTarget(type="multus", name="ns/app")


def source_vm(
    name: str = "web-1", networks: tuple[str, ...] = ("VM Network",), storage="ds", **changed: Any
) -> SourceVm:
    nics = tuple(SourceNic(index=i, network=network, mac="") for i, network in enumerate(networks))
    return seen(name, **{"disks": (disk(storage=storage),), "nics": nics, **changed})


def plan_of(*vms: PlannedVm, **changed: Any) -> Plan:
    return wave_values.plan_of(*vms, **{"network_map": {"VM Network": POD, "app": APP}, **changed})


WEB = PlannedVm(id="web-1", name="web-1")


def ids(plan: Plan, *vms: SourceVm, name: str = "web-1") -> list[str]:
    wave = plan.waves[0]
    said = conditions(plan, wave, {vm.id: [one for one in vms if one.name == vm.name] for vm in wave.vms})
    (vm_id,) = (vm.id for vm in wave.vms if vm.name == name)
    concerns = for_vm(said, vm_id)
    assert all(concern.category is Category.CRITICAL for concern in concerns)
    return [concern.id for concern in concerns]


def test_a_plan_that_covers_its_vm_has_no_concerns():
    assert ids(plan_of(WEB), source_vm(networks=("VM Network", "app"))) == []


@pytest.mark.parametrize(
    ("plan", "vm", "found"),
    [
        pytest.param(plan_of(WEB), source_vm("other"), ["plan.vm.not_found"], id="missing"),
        pytest.param(plan_of(WEB), source_vm(is_template=True), ["plan.vm.template"], id="template"),
        pytest.param(
            plan_of(WEB), source_vm(document={"connectionState": "orphaned"}), ["plan.vm.not_connected"], id="orphaned"
        ),
        pytest.param(plan_of(WEB), source_vm(document={}), [], id="ova-has-no-connection-state"),
        pytest.param(plan_of(WEB), source_vm(disks=()), ["plan.vm.no_disks"], id="diskless"),
        pytest.param(
            plan_of(WEB),
            source_vm(document={"diskAttachments": [{"disk": {"id": "d", "storageType": "lun"}}]}),
            ["plan.disk.lun"],
            id="lun",
        ),
        pytest.param(
            plan_of(WEB),
            source_vm(document={"diskAttachments": [{"disk": {"id": "d", "storageType": "image"}}]}),
            [],
            id="image",
        ),
        pytest.param(plan_of(WEB), source_vm(networks=("dmz",)), ["plan.network.not_mapped"], id="network"),
        pytest.param(plan_of(WEB, network_map={"*": POD}), source_vm(networks=("dmz",)), [], id="any-network"),
        pytest.param(
            plan_of(WEB, defaults=VmOptions(network="ns/nad")), source_vm(networks=("dmz",)), [], id="network-option"
        ),
        pytest.param(
            plan_of(WEB), source_vm(networks=("VM Network", "VM Network")), ["plan.network.pod_twice"], id="two-on-pod"
        ),
        pytest.param(
            plan_of(WEB), source_vm(networks=("app", "app")), ["plan.network.attachment_twice"], id="two-on-attachment"
        ),
        pytest.param(
            plan_of(WEB, network_map={"VM Network": NetworkTarget(type="multus")}),
            source_vm(),
            ["plan.network.target_missing"],
            id="multus-without-name",
        ),
        pytest.param(
            plan_of(WEB, network_map={"*": NetworkTarget(type="ignored")}),
            source_vm(networks=("a", "b")),
            [],
            id="ignored",
        ),
        pytest.param(plan_of(WEB), source_vm(storage="ds-2"), ["plan.storage.not_mapped"], id="storage"),
        pytest.param(
            plan_of(WEB, storage_map={"*": StorageTarget(storage_class="c")}),
            source_vm(storage="x"),
            [],
            id="any-storage",
        ),
        pytest.param(
            plan_of(PlannedVm(id="web-1", name="web-1", storage_class="c")),
            source_vm(storage="x"),
            [],
            id="class-option",
        ),
    ],
)
def test_conditions(plan, vm, found):
    assert ids(plan, vm) == found


def test_two_vms_that_would_have_one_name_are_both_told():
    plan = plan_of(WEB, PlannedVm(id="db-1", name="db-1", target_name="web-1"))
    assert ids(plan, source_vm(), source_vm("db-1")) == ["plan.target_name.duplicate"]
    assert ids(plan, source_vm(), source_vm("db-1"), name="db-1") == ["plan.target_name.duplicate"]


def test_a_name_taken_in_another_wave_counts_too():
    waves = (Wave(name="w", vms=(WEB,)), Wave(name="v", vms=(PlannedVm(id="b", name="b", target_name="web-1"),)))
    assert ids(plan_of(waves=waves), source_vm()) == ["plan.target_name.duplicate"]


@pytest.mark.parametrize(
    ("changed", "vm", "hint"),
    [
        ({"network_map": {"VM_Network": POD}}, source_vm(), "There is 'VM_Network', which may be meant to be it."),
        ({"network_map": {"dmz": POD}}, source_vm(), "Add 'VM Network' or \"*\" to network_map."),
        ({}, source_vm(networks=("",)), 'Add "*" to network_map: it takes what no other key names.'),
        ({}, source_vm(storage="D_S"), "There is 'ds', which may be meant to be it."),
        ({}, source_vm(storage=""), 'Add "*" to storage_map: it takes what no other key names.'),
    ],
    ids=["near-network", "no-near-network", "card-without-network", "near-storage", "disk-without-storage"],
)
def test_what_is_not_mapped_is_told_with_the_key_that_may_be_meant(changed, vm, hint):
    plan = plan_of(WEB, **changed)
    (told,) = conditions(plan, plan.waves[0], {"web-1": [vm]})
    assert told.cure.endswith(hint)
    assert "''" not in told.message


def cure_of_missing(name: str, known: dict[str, str], *more: PlannedVm) -> str:
    plan = plan_of(PlannedVm(id="vm", name=name), *more)
    said = conditions(plan, plan.waves[0], {}, others={"vm": known})
    return next(one.cure for one in said if one.type == "VMNotFound" and "vm" in one.vms)


@pytest.mark.parametrize(
    ("name", "known", "hint"),
    [
        pytest.param("web-1", {"WEB-1": ""}, "There is 'WEB-1', which may be meant to be it. ", id="another-case"),
        pytest.param("web1", {"web-1": "", "db-1": ""}, "There is 'web-1', ", id="misspelt"),
        pytest.param(
            "shop/web-1", {"web-1": "/dc/vm/old/web-1"}, "There is 'web-1' at /dc/vm/old/web-1, ", id="folder"
        ),
        pytest.param("shop/web-1", {"shop-web-2": "", "web-1": ""}, "There is 'web-1', ", id="with-its-folder"),
        pytest.param("web-1", {"database": ""}, "The source has no VM of this name", id="nothing-near"),
    ],
)
def test_a_vm_that_is_not_there_is_told_with_the_one_that_may_be_meant(name, known, hint):
    assert cure_of_missing(name, known).startswith(hint)


def test_a_vm_that_the_plan_names_itself_is_not_the_one_that_may_be_meant():
    assert "There is" not in cure_of_missing("web-1", {"web-2": ""}, PlannedVm(id="web-2", name="web-2"))


def test_near_names_of_so_many_missing_vms_are_not_looked_for():
    missing = tuple(PlannedVm(id=f"web-{n}", name=f"web-{n}") for n in range(30))
    plan = plan_of(*missing)
    said = conditions(plan, plan.waves[0], {}, others={vm.id: {"WEB": "", "web_": ""} for vm in missing})
    assert sum("There is" in one.cure for one in said if one.type == "VMNotFound") == 20


def test_a_lun_needs_no_storage_map():
    lun = msgspec.structs.replace(source_vm().disks[0], storage="", locator={"storage_type": "lun"})
    assert ids(plan_of(WEB), msgspec.structs.replace(source_vm(), disks=(lun,))) == []


def test_equal_concerns_count_once():
    assert ids(plan_of(WEB), source_vm(networks=("dmz", "dmz"))) == ["plan.network.not_mapped"]
