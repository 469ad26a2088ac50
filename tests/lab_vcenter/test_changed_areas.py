"""Changed block tracking answers with what was really written."""

from __future__ import annotations

import pytest
from pyVmomi import vim, vmodl

from tests.lab_vcenter.lab_vcenter_kit import MIB, Center, change_id, disk_key, finish, snapshot, vm_of

BLOCK = 64 << 10


def areas(found: vim.vm.DiskChangeInfo) -> list[tuple[int, int]]:
    return [(area.start, area.length) for area in found.changedArea]


def test_the_star_asks_for_all_that_is_in_use(instance: vim.ServiceInstance) -> None:
    vm = vm_of(instance, "web")
    found = vm.QueryChangedDiskAreas(snapshot(vm, "s"), disk_key(vm), 0, "*")
    assert areas(found) == [(0, MIB), (4 * MIB, 2 * MIB), (15 * MIB, BLOCK)]
    assert (found.startOffset, found.length) == (0, 16 * MIB)


def test_a_delta_is_what_was_written_since(center: Center, instance: vim.ServiceInstance) -> None:
    vm = vm_of(instance, "web")
    first = snapshot(vm, "s1")
    since = change_id(first)
    with center.disk("web").open("r+b") as disk:
        disk.seek(10 * MIB)
        disk.write(b"y" * 200_000)
    finish(first.RemoveSnapshot_Task(False))
    second = snapshot(vm, "s2")
    assert areas(vm.QueryChangedDiskAreas(second, disk_key(vm), 0, since)) == [(10 * MIB, 4 * BLOCK)]
    assert change_id(second) != since


def test_an_unknown_change_id_is_refused(center: Center, instance: vim.ServiceInstance) -> None:
    vm = vm_of(instance, "web")
    snap = snapshot(vm, "s")
    since = change_id(snap)
    with pytest.raises(vmodl.fault.InvalidArgument) as refused:
        vm.QueryChangedDiskAreas(snap, disk_key(vm), 0, "52 aa/9")
    assert refused.value.invalidProperty == "changeId"
    center.faults.forget_change_ids()
    with pytest.raises(vmodl.fault.InvalidArgument):
        vm.QueryChangedDiskAreas(snap, disk_key(vm), 0, since)


def test_a_foreign_device_key_is_refused(instance: vim.ServiceInstance) -> None:
    vm = vm_of(instance, "web")
    with pytest.raises(vmodl.fault.InvalidArgument) as refused:
        vm.QueryChangedDiskAreas(snapshot(vm, "s"), 1, 0, "*")
    assert refused.value.invalidProperty == "deviceKey"


def test_only_a_vm_that_is_off_can_be_asked_without_snapshot(instance: vim.ServiceInstance) -> None:
    web, db = vm_of(instance, "web"), vm_of(instance, "db")
    with pytest.raises(vmodl.fault.InvalidArgument) as refused:
        web.QueryChangedDiskAreas(None, disk_key(web), 0, "*")
    assert refused.value.invalidProperty == "snapshot"
    assert areas(db.QueryChangedDiskAreas(None, disk_key(db), 0, "*")) == [(MIB, MIB)]


def test_snapshots_of_an_untracked_vm_have_no_change_id(instance: vim.ServiceInstance) -> None:
    vm = vm_of(instance, "db")
    finish(vm.ReconfigVM_Task(vim.vm.ConfigSpec(changeTrackingEnabled=False)))
    assert change_id(snapshot(vm, "s")) in ("", "None")
