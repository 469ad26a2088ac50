"""Whether a source has changed: what the lab's vCenter tells of starts, and what it has forgotten."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from pyVmomi import vim

from mtv.providers.registry import open_provider
from mtv.providers.vmware import collect

pytestmark = pytest.mark.lab


def test_the_generation_changes_when_the_vm_has_run_in_between(connect):
    with open_provider(connect()) as provider:
        (vm,) = provider.vms(["power-1"])
        provider.power_off(vm, timeout_s=30)
        (before,) = provider.vms(["power-1"])
        (again,) = provider.vms(["power-1"])
        provider.power_on(vm)
        provider.power_off(vm, timeout_s=30)
        (after,) = provider.vms(["power-1"])
        provider.power_on(vm)
    assert before.disks[0].generation == again.disks[0].generation
    assert before.disks[0].generation != after.disks[0].generation
    assert before.disks[0].identity == after.disks[0].identity


def _post_power_on(provider, vm, kind):
    api = provider.session.open()
    about = vim.event.VmEventArgument(vm=collect.vm_reference(api, vm.id), name=vm.name)
    event = getattr(vim.event, kind)(
        key=0, chainId=0, createdTime=datetime.now(UTC), userName="", template=False, vm=about
    )
    if kind == "VmRestartedOnAlternateHostEvent":
        host = vim.HostSystem(vm.document["host"]["id"], api.instance._stub)
        event.sourceHost = vim.event.HostEventArgument(host=host, name=vm.host)
    api.content.eventManager.PostEvent(event)


@pytest.mark.parametrize("kind", ["DrsVmPoweredOnEvent", "VmRestartedOnAlternateHostEvent"])
def test_a_start_by_drs_or_ha_changes_the_generation(connect, kind):
    assert kind in collect.POWER_ON_EVENTS
    with open_provider(connect()) as provider:
        (before,) = provider.vms(["power-1"])
        _post_power_on(provider, before, kind)
        (after,) = provider.vms(["power-1"])
    assert before.disks[0].generation != after.disks[0].generation


def test_the_generation_stays_when_events_of_others_push_the_vm_s_own_out_of_the_answer(connect, monkeypatch):
    monkeypatch.setattr(collect, "_MAX_EVENTS", 3)
    with open_provider(connect()) as provider:
        (vm, other) = sorted(provider.vms(["power-1", "load-000"]), key=lambda vm: vm.name, reverse=True)
        _post_power_on(provider, vm, "VmPoweredOnEvent")
        (before,) = provider.vms([vm.name])
        for _ in range(3):
            _post_power_on(provider, other, "VmPoweredOnEvent")
        (after,) = provider.vms([vm.name])
    assert "on=2" in before.disks[0].generation
    assert before.disks[0].generation == after.disks[0].generation


@pytest.fixture
def forgetful(connect, monkeypatch):
    """A provider, and its VM power-1, off, before and after vCenter has forgotten its start."""
    with open_provider(connect()) as provider:
        (vm,) = provider.vms(["power-1"])
        provider.power_off(vm, timeout_s=30)
        provider.power_on(vm)  # the lab makes its VMs running: no event tells of that
        provider.power_off(vm, timeout_s=30)
        (before,) = provider.vms([vm.name])
        with monkeypatch.context() as patch:
            patch.setattr(
                collect, "POWER_ON_EVENTS", ("VmPoweringOnWithCustomizedDVPortEvent",)
            )  # none was ever posted
            (after,) = provider.vms([vm.name])
        yield provider, before, after
        provider.power_on(vm)


LATER = datetime.now(UTC) + timedelta(days=2)
"""As seen from here, the lab's events, which are some seconds old, are old enough."""


def generations(vm):
    return [disk.generation for disk in vm.disks]


def test_a_start_that_vcenter_has_forgotten_is_no_other_generation(forgetful):
    provider, before, after = forgetful
    assert generations(after) != generations(before)
    assert generations(provider.as_seen_before(after, before, LATER)) == generations(before)


def test_a_vcenter_that_would_have_forgotten_a_later_start_too_is_not_believed(forgetful):
    provider, before, after = forgetful
    assert provider.as_seen_before(after, before, datetime.now(UTC)) == after


def test_a_user_who_may_not_read_events_any_more_proves_nothing(forgetful, faults):
    provider, before, after = forgetful
    faults.soap("QueryEvents", "NoPermission", count=0)
    assert provider.as_seen_before(after, before, LATER) == after


def test_a_start_since_is_another_generation_whatever_was_forgotten(forgetful):
    provider, before, _ = forgetful
    provider.power_on(before)
    provider.power_off(before, timeout_s=30)
    (after,) = provider.vms([before.name])
    assert provider.as_seen_before(after, before, LATER) == after
