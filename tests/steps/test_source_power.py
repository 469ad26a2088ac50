"""The source's power: one plan alone shuts it down; the record starts it again, whatever was cut off or renamed."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest

from mtv.kubevirt.resources import INSTANCES
from mtv.model.errors import DriftError, MtvError, PermanentError, TemporaryError
from mtv.model.plan import Plan, Source, Target
from mtv.model.source import PowerState, SourceVm
from mtv.steps import create_vm, prepare, run, settle, source, transfer, verify
from mtv.steps.context import VmContext
from mtv.store.errors import HeldByAnother
from tests.kubevirt.values import source_vm
from tests.steps.conftest import plan_of, through_validation
from tests.steps.walk import MakeRun, migrate, play_convert, play_transfer, settled
from tests.steps.world import MemoryProvider, World


def cut_off_and_settled(vm: VmContext, world: World) -> None:
    """Cut the shutdown off, settle the run, let the time pass by which the guest would be down: the source is on."""
    world.cut_off_shutdown = True
    with pytest.raises(TemporaryError, match="cut off"):
        prepare.prepare(vm)
    settle.settle(vm)
    world.finish_going_down()
    assert world.vm.power is PowerState.ON
    assert vm.store.open_source_changes("first", "web-1") == []


def test_a_shutdown_that_was_cut_off_midway_still_ends_with_the_source_on(make_run: MakeRun, world: World) -> None:
    cut_off_and_settled(through_validation(make_run()), world)


def test_a_retry_of_a_shutdown_that_was_cut_off_says_that_the_guest_may_be_going_down(
    make_run: MakeRun, world: World
) -> None:
    vm = through_validation(make_run())
    world.cut_off_shutdown = True
    with pytest.raises(TemporaryError, match="cut off"):
        prepare.prepare(vm)
    prepare.prepare(vm)
    assert world.vm.power is PowerState.OFF
    assert len(vm.store.open_source_changes("first", "web-1")) == 1


def test_a_shutdown_that_outlives_its_run_is_undone(make_run: MakeRun, world: World) -> None:
    vm = through_validation(make_run())
    world.meanwhile = lambda: settle.settle(vm)
    with pytest.raises(PermanentError, match="lost the VM while it shut the source down"):
        prepare.prepare(vm)
    assert world.vm.power is PowerState.ON
    assert vm.store.open_source_changes("first", "web-1") == []


def test_a_second_shutdown_that_is_cut_off_is_not_taken_for_the_first_that_was_seen_through(
    make_run: MakeRun, world: World
) -> None:
    held = through_validation(make_run(on_failure="hold"))
    prepare.prepare(held)
    settle.settle(held)
    run.close(held)
    world.power(PowerState.ON)  # somebody needs it in between
    vm = through_validation(make_run("r2"))
    cut_off_and_settled(vm, world)
    assert [change.kind for change in vm.store.source_changes(vm.run.id)] == ["power"]


def test_a_retry_that_finds_the_source_on_again_is_a_shutdown_of_its_own(make_run: MakeRun, world: World) -> None:
    vm = through_validation(make_run())
    prepare.prepare(vm)
    world.power(PowerState.ON)
    world.cut_off_shutdown = True
    with pytest.raises(MtvError):
        prepare.prepare(vm)
    settle.settle(vm)
    world.finish_going_down()
    assert world.vm.power is PowerState.ON


@pytest.mark.parametrize("on_failure", ["rollback", "hold"])
def test_a_source_that_was_renamed_meanwhile_is_rolled_back_by_its_id(
    make_run: MakeRun, world: World, on_failure: str
) -> None:
    vm = through_validation(make_run(on_failure=on_failure))
    prepare.prepare(vm)
    world.vm = msgspec.structs.replace(world.vm, name="web-1-old")
    with pytest.raises(DriftError, match="has no VM of this name any more"):
        transfer.pod_request(vm)
    settle.settle(vm)
    assert world.vm.power is (PowerState.ON if on_failure == "rollback" else PowerState.OFF)
    assert vm.store.vm("first", "web-1").holder == ""


def test_a_source_that_is_off_and_locked_for_a_while_is_taken_by_a_retry(make_run: MakeRun, world: World) -> None:
    world.power(PowerState.OFF)
    vm = through_validation(make_run())
    world.power(PowerState.UNKNOWN)  # as while a backup has an engine lock its images
    with pytest.raises(TemporaryError, match="does not say whether web-1 runs") as refused:
        prepare.prepare(vm)
    assert "backup" in refused.value.cure
    assert "on or off by hand" in refused.value.cure  # shelved, or in ERROR: nothing passes there by itself
    world.power(PowerState.OFF)
    prepare.prepare(vm)
    world.power(PowerState.UNKNOWN)
    with pytest.raises(TemporaryError, match="does not say whether web-1 runs"):
        transfer.pod_request(vm)
    world.power(PowerState.OFF)
    play_transfer(vm, world)


def test_a_source_that_gets_locked_just_before_it_is_shut_down_or_needed_off_is_not_called_suspended(
    make_run: MakeRun, world: World
) -> None:
    vm = through_validation(make_run())
    seen = source.pinned(vm)
    world.power(PowerState.UNKNOWN)
    with vm.provider(vm.vm.source) as provider:
        with pytest.raises(TemporaryError, match="does not say whether web-1 runs"):
            source.shut_down(vm, provider, seen)
        with pytest.raises(TemporaryError, match="does not say whether web-1 runs"):
            source.require_off(vm, provider, seen, "its disks are copied only while it is off")
    assert vm.store.open_source_changes("first", "web-1") == []
    world.power(PowerState.ON)
    prepare.prepare(vm)
    assert world.vm.power is PowerState.OFF


def second_plan() -> Plan:
    return plan_of().model_copy(update={"name": "second", "target": Target(connection="cluster", namespace="other")})


def test_a_source_that_another_plan_is_shutting_down_is_left_to_that_plan(make_run: MakeRun, world: World) -> None:
    """Else the second one would fail later, and start the source while the first one's target runs."""
    first, second = through_validation(make_run()), through_validation(make_run("r2", plan=second_plan()))

    def second_comes_by() -> None:
        with pytest.raises(HeldByAnother, match="is migrated by plan first"):
            prepare.prepare(second)

    world.meanwhile = second_comes_by
    prepare.prepare(first)
    settle.settle(second)
    assert world.vm.power is PowerState.OFF
    play_transfer(first, world)
    play_convert(first, world)
    create_vm.create_vm(first)
    verify.verify(first)
    settle.settle(first)
    assert settled(first)["outcome"] == "migrated"


def test_a_source_that_another_plan_has_shut_down_is_not_taken_as_one_that_was_off(
    make_run: MakeRun, world: World
) -> None:
    first = through_validation(make_run())
    prepare.prepare(first)
    second = through_validation(make_run("r2", plan=second_plan()))
    with pytest.raises(HeldByAnother, match="is migrated by plan first"):
        prepare.prepare(second)
    settle.settle(first)
    run.close(first)
    assert world.vm.power is PowerState.ON
    settle.settle(second)
    run.close(second)
    migrate(through_validation(make_run("r3", plan=second_plan())), world)
    assert world.vm.power is PowerState.OFF


def test_a_source_that_a_second_connection_leads_to_is_still_one_source(make_run: MakeRun, world: World) -> None:
    first = through_validation(make_run())
    prepare.prepare(first)
    again = second_plan().model_copy(update={"source": Source(connection="vcenter-again")})
    second = through_validation(make_run("r2", plan=again))
    with pytest.raises(HeldByAnother, match="is migrated by plan first"):
        prepare.prepare(second)


@pytest.mark.parametrize("means_the_same", [True, False])
def test_a_source_that_forgot_a_start_while_it_was_copied_is_not_copied_again(
    make_run: MakeRun, world: World, monkeypatch: pytest.MonkeyPatch, means_the_same: bool
) -> None:
    asked: list[datetime] = []

    def as_seen_before(_: object, now: SourceVm, before: SourceVm, seen_at: datetime) -> SourceVm:
        asked.append(seen_at)
        return before if means_the_same else now

    monkeypatch.setattr(MemoryProvider, "as_seen_before", as_seen_before, raising=False)
    vm = through_validation(make_run())
    began = datetime.now(UTC)
    prepare.prepare(vm)
    request = transfer.pod_request(vm)
    assert request is not None
    said = world.run_pod(request)
    world.generation += 1
    if means_the_same:
        transfer.finish(vm, said)
    else:
        with pytest.raises(TemporaryError, match="changed on the source"):
            transfer.finish(vm, said)
    assert all(began < moment <= datetime.now(UTC) for moment in asked)


def test_a_source_that_runs_again_is_never_joined_by_its_target(make_run: MakeRun, world: World) -> None:
    vm = through_validation(make_run())
    prepare.prepare(vm)
    play_transfer(vm, world)
    play_convert(vm, world)
    world.power(PowerState.ON)
    with pytest.raises(MtvError):
        create_vm.create_vm(vm)
    assert world.all(INSTANCES) == []


def test_a_source_that_runs_is_not_copied_and_the_cure_is_named(make_run: MakeRun, world: World) -> None:
    vm = through_validation(make_run())
    prepare.prepare(vm)
    world.power(PowerState.ON)
    with pytest.raises(PermanentError, match="copied only while it is off") as refused:
        transfer.pod_request(vm)
    assert refused.value.cure == "clear the task prepare of this VM, which shuts it down"
    assert refused.value.code == "source-not-off"


def test_a_suspended_vm_is_not_powered_off(make_run: MakeRun, world: World) -> None:
    world.vm = source_vm(power=PowerState.SUSPENDED)
    with pytest.raises(PermanentError, match="suspended"):
        prepare.prepare(through_validation(make_run()))
