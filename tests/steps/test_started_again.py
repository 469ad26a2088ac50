"""A source that somebody starts after its copy: no step takes the copy for the VM any more, and never do both run."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mtv.kubevirt import labels
from mtv.kubevirt.resources import CLAIMS, INSTANCES, VIRTUAL_MACHINES
from mtv.model.errors import DriftError, TemporaryError
from mtv.model.evidence import VmPhase
from mtv.model.plan import BootProof
from mtv.model.source import PowerState
from mtv.steps import convert, prepare, run, settle, verify
from mtv.steps.context import VmContext
from tests.kubevirt.values import source_vm
from tests.steps.conftest import MARKER, through_validation
from tests.steps.walk import MakeRun, migrate, migrate_but_settle, play_transfer, settled, until_created
from tests.steps.world import MemoryCluster, World

Prepare = Callable[[VmContext, World], None]


def started_and_stopped(world: World) -> None:
    world.power(PowerState.ON)
    world.power(PowerState.OFF)


def test_a_copy_is_not_converted_once_its_source_was_started_and_stopped(make_run: MakeRun, world: World) -> None:
    vm = through_validation(make_run())
    prepare.prepare(vm)
    play_transfer(vm, world)
    started_and_stopped(world)
    with pytest.raises(DriftError, match="was started or changed since it was copied") as refused:
        convert.pod_request(vm)
    assert refused.value.code == "source-started-again"
    settle.settle(vm)
    migrate(through_validation(make_run("r2")), world)


def test_a_copy_is_converted_while_its_source_does_not_answer(make_run: MakeRun, world: World) -> None:
    vm = through_validation(make_run())
    prepare.prepare(vm)
    play_transfer(vm, world)
    world.power(PowerState.UNKNOWN)
    request = convert.pod_request(vm)
    assert request is not None
    world.power(PowerState.OFF)
    convert.finish(vm, world.run_pod(request))


@pytest.mark.parametrize("throw_away", [False, True])
def test_a_boot_is_no_proof_of_a_copy_whose_source_was_started_before_it(
    make_run: MakeRun, world: World, throw_away: bool
) -> None:
    world.vm = source_vm(power=PowerState.OFF)
    vm = through_validation(make_run(boot_proof=BootProof(marker=MARKER, timeout_s=5, throw_away=throw_away)))
    until_created(vm, world)
    started_and_stopped(world)
    with pytest.raises(DriftError, match="not those that were copied"):
        verify.verify(vm)
    settle.settle(vm)
    assert settled(vm)["outcome"] == "rolled back"


def test_a_boot_is_no_proof_of_a_copy_whose_source_is_started_while_it_is_watched(
    make_run: MakeRun, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    vm = through_validation(make_run())
    until_created(vm, world)
    read = MemoryCluster.pod_log

    def meanwhile(cluster: MemoryCluster, *arguments: str, **more: int) -> str:
        world.vm = source_vm(power=PowerState.ON)  # by somebody's hand, however wrong
        world.generation += 1
        return read(cluster, *arguments, **more)

    monkeypatch.setattr(MemoryCluster, "pod_log", meanwhile)
    monkeypatch.setattr(world, "check", lambda: None)
    with pytest.raises(DriftError, match="it is on on the source"):
        verify.verify(vm)
    settle.settle(vm)
    assert world.all(VIRTUAL_MACHINES) == world.all(INSTANCES) == []
    assert world.vm.power is PowerState.ON


@pytest.mark.parametrize("stays_on", [True, False], ids=["runs", "stopped-again"])
@pytest.mark.parametrize("on_failure", ["rollback", "hold"])
def test_a_verified_vm_whose_source_was_started_since_is_not_accepted(
    make_run: MakeRun, world: World, monkeypatch: pytest.MonkeyPatch, on_failure: str, stays_on: bool
) -> None:
    started = make_run(on_failure=on_failure)
    vm = through_validation(started)
    migrate_but_settle(vm, world)
    with monkeypatch.context() as patch:
        patch.setattr(world, "check", lambda: None)  # both run by somebody's hand, until settle ends it
        world.power(PowerState.ON)
        if not stays_on:
            world.power(PowerState.OFF)
        settle.settle(vm)
    world.check()
    assert settled(vm)["outcome"] == ("rolled back" if on_failure == "rollback" else "held")
    assert world.all(VIRTUAL_MACHINES) == world.all(INSTANCES) == []
    assert world.vm.power is (PowerState.ON if stays_on or on_failure == "rollback" else PowerState.OFF)
    assert all(labels.ACCEPTED not in str(claim) for claim in world.all(CLAIMS))
    with pytest.raises(Exception, match="was started or changed since it was copied"):
        run.verdict(started)
    again = through_validation(make_run("r2"))
    migrate(again, world)
    assert again.store.vm(*again.key).phase is VmPhase.MIGRATED


def test_a_verified_vm_is_accepted_though_its_source_does_not_answer_any_more_and_that_is_told(
    make_run: MakeRun, world: World
) -> None:
    vm = through_validation(make_run())
    migrate_but_settle(vm, world)
    world.power(PowerState.UNKNOWN)
    settle.settle(vm)
    assert (settled(vm)["outcome"], settled(vm)["source_power"]) == ("migrated", "unknown")
    assert any("accepted without another look at its source" in line for line in world.log)


def test_a_source_that_is_started_after_the_decision_changes_it_no_more(make_run: MakeRun, world: World) -> None:
    vm = through_validation(make_run())
    migrate_but_settle(vm, world)
    while vm.store.vm(*vm.key).phase is not VmPhase.ACCEPTING:
        world.faults = {world.calls + 10}
        with pytest.raises(TemporaryError):
            settle.settle(vm)
    world.faults = set()
    started_and_stopped_while_the_target_runs(world)
    settle.settle(vm)
    assert settled(vm)["outcome"] == "migrated"


def started_and_stopped_while_the_target_runs(world: World) -> None:
    world.generation += 1
