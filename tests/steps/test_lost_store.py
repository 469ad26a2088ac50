"""A store that is new, restored or another one: the VM that was accepted on the target is not touched again."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mtv.kubevirt import labels
from mtv.kubevirt.resources import CLAIMS, INSTANCES, VIRTUAL_MACHINES
from mtv.model.errors import MtvError, PermanentError, TemporaryError
from mtv.model.evidence import VmPhase
from mtv.model.source import PowerState
from mtv.steps import convert, create_vm, prepare, run, settle, transfer, verify
from mtv.steps.context import VmContext
from mtv.store import Store
from tests.steps.conftest import begin, through_validation
from tests.steps.walk import MakeRun, migrate, migrate_but_settle, play_convert, play_transfer, settled
from tests.steps.world import World


@pytest.fixture
def other_store(empty_store: Path, tmp_path: Path) -> Iterator[Store]:
    shutil.copy(empty_store, tmp_path / "other.sqlite")
    with Store.open(f"sqlite:///{tmp_path / 'other.sqlite'}") as store:
        yield store


def target(world: World) -> list[dict[str, Any]]:
    """What lives on the target: the machine, what runs of it, and its disks."""
    return copy.deepcopy([*world.all(VIRTUAL_MACHINES), *world.all(INSTANCES), *world.all(CLAIMS)])


def accepted_before_there_were_annotations(world: World) -> None:
    for machine in world.all(VIRTUAL_MACHINES):
        del machine["metadata"]["annotations"][labels.ACCEPTED]


@pytest.mark.parametrize("is_old", [False, True], ids=["annotated", "of-an-older-version"])
@pytest.mark.parametrize("on_failure", ["rollback", "hold"])
def test_a_migrated_vm_that_a_new_store_does_not_know_is_refused_and_left_alone(
    make_run: MakeRun, world: World, other_store: Store, tmp_path: Path, on_failure: str, is_old: bool
) -> None:
    migrate(through_validation(make_run()), world)
    if is_old:
        accepted_before_there_were_annotations(world)
    before = target(world)
    vm = through_validation(begin(other_store, world, tmp_path, on_failure=on_failure))
    with pytest.raises(PermanentError, match="was migrated already by run") as refused:
        prepare.prepare(vm)
    assert refused.value.code == "already-migrated"
    settle.settle(vm)
    assert settled(vm)["outcome"] == "not touched"
    assert target(world) == before
    assert world.vm.power is PowerState.OFF


@pytest.mark.parametrize("step", ["transfer", "convert", "create_vm", "verify", "settle"])
def test_a_store_restored_from_the_middle_of_a_run_spoils_nothing_that_came_after(
    make_run: MakeRun, world: World, tmp_path: Path, step: str
) -> None:
    """Its tasks go on where the store believes them to be, also those that would write to the disks."""
    vm = through_validation(make_run())
    restored = tmp_path / "restored.sqlite"

    def reached(name: str) -> None:
        if name == step:
            shutil.copy(tmp_path / "store.sqlite", restored)

    prepare.prepare(vm)
    reached("transfer")
    play_transfer(vm, world)
    reached("convert")
    play_convert(vm, world)
    reached("create_vm")
    create_vm.create_vm(vm)
    reached("verify")
    verify.verify(vm)
    reached("settle")
    settle.settle(vm)
    before = target(world)
    with Store.open(f"sqlite:///{restored}") as store:
        again = begin(store, world, tmp_path).for_vm("web-1")
        assert again.run.id == vm.run.id
        for go_on in (transfer.pod_request, convert.pod_request, create_vm.create_vm):
            try:
                assert go_on(again) is None
            except MtvError as error:
                world.log.append(str(error))
        settle.settle(again)
        assert target(world) == before
        assert world.vm.power is PowerState.OFF
        after = store.vm("first", "web-1")
        assert (after.phase, after.holder) == (VmPhase.MIGRATED if step == "settle" else VmPhase.FAILED, "")


def verified(make_run: MakeRun, world: World) -> VmContext:
    vm = through_validation(make_run())
    migrate_but_settle(vm, world)
    return vm


@pytest.mark.parametrize("fault", range(1, 25))
def test_a_settle_cut_off_anywhere_ends_well_when_it_is_tried_again(
    make_run: MakeRun, world: World, fault: int
) -> None:
    vm = verified(make_run, world)
    world.faults = {world.calls + fault}
    try:
        settle.settle(vm)
    except TemporaryError:
        for step in (prepare.prepare, transfer.pod_request, convert.pod_request, create_vm.create_vm, verify.verify):
            assert step(vm) is None, "cleared with what comes before it"
        settle.settle(vm)
    assert vm.store.vm(*vm.key).phase is VmPhase.MIGRATED
    (machine,) = world.all(VIRTUAL_MACHINES)
    assert machine["metadata"]["annotations"][labels.ACCEPTED] == vm.run.id
    assert all(claim["metadata"]["ownerReferences"] for claim in world.all(CLAIMS))
    assert [instance["metadata"]["name"] for instance in world.all(INSTANCES)] == ["web-1"]


def test_a_settle_cut_off_after_the_acceptance_is_ended_by_the_next_run(make_run: MakeRun, world: World) -> None:
    vm = verified(make_run, world)
    (machine,) = world.all(VIRTUAL_MACHINES)
    machine["metadata"]["annotations"][labels.ACCEPTED] = vm.run.id
    run.close(vm)
    assert run.freeze(make_run("r2")) == []
    assert vm.store.vm(*vm.key).phase is VmPhase.MIGRATED


def test_a_target_vm_that_is_deleted_on_purpose_may_be_migrated_again(
    make_run: MakeRun, world: World, other_store: Store, tmp_path: Path
) -> None:
    migrate(through_validation(make_run()), world)
    (machine,) = world.all(VIRTUAL_MACHINES)
    vm = through_validation(begin(other_store, world, tmp_path))
    machine["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    with pytest.raises(TemporaryError, match="still being deleted"):
        prepare.prepare(vm)
    world.drop(VIRTUAL_MACHINES, "web-1", "demo")
    migrate(vm, world)
    assert vm.store.vm(*vm.key).phase is VmPhase.MIGRATED
