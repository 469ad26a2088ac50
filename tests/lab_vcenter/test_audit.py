"""The audit lists what changed the source, and nothing else."""

from __future__ import annotations

import pytest
from pyVmomi import vim

from tests.lab_vcenter.lab_vcenter_kit import (
    ADMIN,
    READER,
    Center,
    collect,
    finish,
    opened_lease,
    read,
    snapshot,
    vm_of,
)


def test_reading_and_exporting_leave_no_trace(center: Center, instance: vim.ServiceInstance) -> None:
    collect(instance, ["config", "runtime", "guest", "snapshot", "datastore", "network"])
    opened_lease(vm_of(instance, "db").ExportVm())
    center.get("/folder/db/db-flat.vmdk?dcPath=dc1&dsName=ds1", user=ADMIN)
    assert center.audit() == []


def test_changes_are_listed_in_order_with_names_and_user(center: Center, instance: vim.ServiceInstance) -> None:
    vm = vm_of(instance, "web")
    snap = snapshot(vm, "mtv-web-7")
    finish(snap.RemoveSnapshot_Task(False))
    finish(vm.PowerOffVM_Task())
    found = [(change.method, change.name, change.user, change.passed) for change in center.audit()]
    assert found == [
        ("CreateSnapshot_Task", "web", ADMIN, True),
        ("RemoveSnapshot_Task", "web/mtv-web-7", ADMIN, True),
        ("PowerOffVM_Task", "web", ADMIN, True),
    ]
    assert center.audit()[0].detail["snapshot"] == "mtv-web-7"


def test_a_reconfiguration_is_listed_with_what_it_asked_for(center: Center, instance: vim.ServiceInstance) -> None:
    finish(vm_of(instance, "db").ReconfigVM_Task(vim.vm.ConfigSpec(changeTrackingEnabled=False)))
    (change,) = center.audit()
    assert change.detail["changeTrackingEnabled"] is False


def test_a_refused_change_is_listed_as_refused(center: Center) -> None:
    with pytest.raises(vim.fault.NoPermission):
        vm_of(center.connect(READER), "web").CreateSnapshot_Task("s", "", False, False)
    (change,) = center.audit()
    assert (change.method, change.user, change.passed) == ("CreateSnapshot_Task", READER, False)


def test_the_version_of_the_configuration_moves_with_every_change(instance: vim.ServiceInstance) -> None:
    vm = vm_of(instance, "web")
    seen = [read(vm, "config.changeVersion")]
    snap = snapshot(vm, "s")
    seen.append(read(vm, "config.changeVersion"))
    finish(snap.RemoveSnapshot_Task(False))
    seen.append(read(vm, "config.changeVersion"))
    booted = read(vm, "runtime.bootTime")
    assert booted is not None
    finish(vm.PowerOffVM_Task())
    seen.append(read(vm, "config.changeVersion"))
    assert read(vm, "runtime.bootTime") is None
    finish(vm.PowerOnVM_Task())
    seen.append(read(vm, "config.changeVersion"))
    assert read(vm, "runtime.bootTime") > booted
    assert len(set(seen)) == len(seen)


def test_a_guest_shutdown_needs_a_running_vm_with_tools(instance: vim.ServiceInstance) -> None:
    vm = vm_of(instance, "web")
    assert read(vm, "guest").toolsRunningStatus == "guestToolsRunning"
    vm.ShutdownGuest()
    assert read(vm, "runtime.powerState") == "poweredOff"
    assert read(vm, "guest").toolsRunningStatus == "guestToolsNotRunning"
    with pytest.raises(vim.fault.InvalidPowerState):
        vm.ShutdownGuest()
