"""A source VM that is deleted while it is migrated: the only copy is never removed, and nothing stays held."""

from __future__ import annotations

import copy
from typing import Any

import msgspec
import pytest

from mtv.kubevirt import labels
from mtv.kubevirt.resources import CLAIMS, PODS, VIRTUAL_MACHINES
from mtv.model.errors import PermanentError, TemporaryError
from mtv.model.evidence import VmPhase
from mtv.model.source import PowerState
from mtv.steps import convert, create_vm, prepare, run, settle, transfer
from mtv.steps.context import VmContext
from tests.steps.conftest import through_validation
from tests.steps.walk import MakeRun, migrate, migrate_but_settle, play_convert, play_transfer, settled
from tests.steps.world import MemoryProvider, World


def converting(vm: VmContext, world: World) -> None:
    prepare.prepare(vm)
    play_transfer(vm, world)
    assert convert.pod_request(vm) is not None


def kept(world: World) -> list[dict[str, Any]]:
    """Machines and claims, without the mark that they may be the only copy, and the version that it changes."""
    found = copy.deepcopy([*world.all(VIRTUAL_MACHINES), *world.all(CLAIMS)])
    for body in found:
        (body["metadata"].get("annotations") or {}).pop(labels.ONLY_COPY, None)
        del body["metadata"]["resourceVersion"]
    return found


@pytest.mark.parametrize("on_failure", ["rollback", "hold"])
@pytest.mark.parametrize("reached", ["converting", "created"])
def test_all_that_the_target_has_of_a_vm_that_is_gone_from_its_source_stays_and_the_vm_is_let_go(
    make_run: MakeRun, world: World, on_failure: str, reached: str
) -> None:
    started = make_run(on_failure=on_failure)
    vm = through_validation(started)
    converting(vm, world)
    if reached == "created":
        play_convert(vm, world)
        create_vm.create_vm(vm)
    world.is_gone = True
    before = kept(world)
    settle.settle(vm)
    assert kept(world) == before
    assert settled(vm)["outcome"] == "source gone"
    assert (vm.store.vm(*vm.key).phase, vm.store.vm(*vm.key).holder) == (VmPhase.FAILED, "")
    assert vm.store.open_source_changes("first", "web-1") == []
    assert [pod for pod in world.all(PODS) if labels.ROLE in pod["metadata"]["labels"]] == []
    with pytest.raises(PermanentError, match="may be the only copy of it; nothing was removed"):
        run.verdict(started)


@pytest.mark.parametrize("on_failure", ["rollback", "hold"])
def test_a_source_that_is_there_again_is_not_copied_over_what_may_be_the_only_copy_before_a_person_allows_it(
    make_run: MakeRun, world: World, on_failure: str
) -> None:
    vm = through_validation(make_run(on_failure=on_failure))
    migrate_but_settle(vm, world)
    vm.store.advance(*vm.key, vm.run.id, VmPhase.CREATED)  # as if nothing had proven its boot
    world.is_gone = True
    settle.settle(vm)
    world.drop(VIRTUAL_MACHINES, "web-1", "demo") if on_failure == "hold" else None
    world.is_gone = False  # from a backup, with the same disks
    world.generation += 1
    before = kept(world)
    later = through_validation(make_run("r2", on_failure=on_failure))
    with pytest.raises(PermanentError, match="found its source gone") as refused:
        prepare.prepare(later)
    assert refused.value.code == "only-copy"
    settle.settle(later)
    assert settled(later)["outcome"] == "not touched"
    assert kept(world) == before
    run.close(later)
    for claim in world.all(CLAIMS):
        claim["metadata"]["annotations"].pop(labels.ONLY_COPY, None)
    if on_failure == "rollback":
        world.drop(VIRTUAL_MACHINES, "web-1", "demo")
    migrate(through_validation(make_run("r3")), world)


def test_a_verified_vm_that_is_deleted_on_its_source_is_migrated(make_run: MakeRun, world: World) -> None:
    vm = through_validation(make_run())
    migrate_but_settle(vm, world)
    world.is_gone = True
    settle.settle(vm)
    assert settled(vm)["outcome"] == "migrated"


def test_a_source_that_does_not_answer_is_not_gone_and_its_target_is_not_removed_meanwhile(
    make_run: MakeRun, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    vm = through_validation(make_run())
    converting(vm, world)
    play_convert(vm, world)
    create_vm.create_vm(vm)

    def away(*_: object) -> None:
        raise TemporaryError("the source does not answer")

    with monkeypatch.context() as patch:
        patch.setattr(MemoryProvider, "vms", away)
        with pytest.raises(TemporaryError, match="does not answer"):
            settle.settle(vm)
    assert len(world.all(VIRTUAL_MACHINES)) == 1
    assert vm.store.vm(*vm.key).phase is VmPhase.ROLLING_BACK
    settle.settle(vm)
    assert world.vm.power is PowerState.ON
    assert settled(vm)["outcome"] == "rolled back"


def test_a_vm_is_held_though_its_source_does_not_answer(
    make_run: MakeRun, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    vm = through_validation(make_run(on_failure="hold"))
    converting(vm, world)

    def away(*_: object) -> None:
        raise TemporaryError("the source does not answer")

    monkeypatch.setattr(MemoryProvider, "vms", away)
    settle.settle(vm)
    assert settled(vm)["outcome"] == "held"


def test_a_source_that_was_registered_anew_under_another_id_is_started_by_its_uuid(
    make_run: MakeRun, world: World
) -> None:
    vm = through_validation(make_run())
    prepare.prepare(vm)
    world.vm = msgspec.structs.replace(world.vm, id="vm-99", name="web-1-again")
    with pytest.raises(PermanentError):
        transfer.pod_request(vm)
    settle.settle(vm)
    assert settled(vm)["outcome"] == "rolled back"
    assert world.vm.power is PowerState.ON
    assert vm.store.open_source_changes("first", "web-1") == []


def test_a_connection_that_leads_to_another_source_proves_nothing_of_the_vm(make_run: MakeRun, world: World) -> None:
    vm = through_validation(make_run())
    converting(vm, world)
    before = kept(world)
    world.is_gone, world.installation = True, "vc-2"
    with pytest.raises(PermanentError, match="leads to another source"):
        settle.settle(vm)
    assert kept(world) == before
    assert vm.store.vm(*vm.key).holder == vm.run.id
    world.is_gone, world.installation = False, "vc-1"
    settle.settle(vm)
    assert world.vm.power is PowerState.ON
