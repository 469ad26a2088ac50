"""A migrated VM stays migrated, whatever is cleared afterwards and whatever its owner does with the target."""

from __future__ import annotations

import msgspec
import pytest

from mtv.kubevirt.resources import CLAIMS, INSTANCES, VIRTUAL_MACHINES
from mtv.model.evidence import VmPhase
from mtv.model.source import PowerState, SourceVm
from mtv.steps import convert, create_vm, prepare, run, settle, transfer, verify
from mtv.store import AlreadyMigrated
from tests.steps.conftest import through_validation
from tests.steps.walk import MakeRun, migrate, migrate_but_settle
from tests.steps.world import World


def moved_away_by_its_owner(world: World) -> None:
    """It runs on elsewhere, under another name: nothing here says so."""
    for claim in world.all(CLAIMS):
        claim["metadata"].pop("ownerReferences", None)
        world.drop(CLAIMS, claim["metadata"]["name"], "demo")
    world.drop(VIRTUAL_MACHINES, "web-1", "demo")


@pytest.mark.parametrize("gone", [False, True], ids=["target-as-it-was", "target-moved-away"])
def test_validate_cleared_after_the_migration_does_not_make_the_vm_one_that_may_be_taken_again(
    make_run: MakeRun, world: World, gone: bool
) -> None:
    first = make_run()
    vm = through_validation(first)
    migrate(vm, world)
    if gone:
        moved_away_by_its_owner(world)
    with pytest.MonkeyPatch.context() as patch:  # a condition that came up since, as of the VM's name on the target
        patch.setattr(world, "source_now", lambda: _template(world))
        run.snapshot_inventory(first)
        run.validate(first)
    assert vm.store.vm(*vm.key).phase is VmPhase.MIGRATED
    run.close(first)
    assert run.freeze(make_run("r2")) == []
    assert world.vm.power is PowerState.OFF


def _template(world: World) -> SourceVm:
    return msgspec.structs.replace(world.vm, is_template=True, disks=())


def test_a_vm_whose_dead_run_is_settled_as_migrated_by_prepare_is_not_taken_from_it(
    make_run: MakeRun, world: World
) -> None:
    """`freeze` could not settle it, so that it is pinned again; its owner has moved it away when the run goes on."""
    dead = through_validation(make_run())
    migrate_but_settle(dead, world)
    run.close(dead)
    later = make_run("r2")
    world.faults = {world.calls + 1}
    vm = through_validation(later)
    assert vm.store.run(later.run.id).frozen_vms == ("web-1",)
    prepare.prepare(vm)
    for step in (transfer.pod_request, convert.pod_request, create_vm.create_vm, verify.verify):
        assert step(vm) is None
    settle.settle(vm)
    row = vm.store.vm(*vm.key)
    assert (row.phase, row.holder, row.last_run) == (VmPhase.MIGRATED, "", dead.run.id)
    assert [instance["metadata"]["name"] for instance in world.all(INSTANCES)] == ["web-1"]
    run.verdict(later)


def test_no_run_takes_a_migrated_vm_and_no_late_word_takes_it_back(make_run: MakeRun, world: World) -> None:
    vm = through_validation(make_run())
    migrate(vm, world)
    with pytest.raises(AlreadyMigrated, match="was migrated by run"):
        vm.store.claim_vm(*vm.key, vm.run.id)
    with pytest.raises(AlreadyMigrated, match="was migrated by run"):
        vm.store.release_vm(*vm.key, vm.run.id, VmPhase.FAILED)
    vm.store.release_vm(*vm.key, vm.run.id, VmPhase.MIGRATED)
    assert vm.store.vm(*vm.key).phase is VmPhase.MIGRATED
