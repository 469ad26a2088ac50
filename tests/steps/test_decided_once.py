"""What settle has decided stays decided: cut off anywhere, cleared or repeated, and whatever else goes on meanwhile."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mtv.kubevirt import labels
from mtv.kubevirt.resources import CLAIMS, INSTANCES, NAMESPACES, VIRTUAL_MACHINES
from mtv.model.errors import PermanentError, TemporaryError
from mtv.model.evidence import VmPhase
from mtv.model.source import PowerState
from mtv.steps import convert, create_vm, prepare, recovery, run, settle, source, transfer, verify
from mtv.steps.context import VmContext
from mtv.store import StaleHolder
from tests.steps.conftest import through_validation
from tests.steps.walk import MakeRun, migrate, migrate_but_settle, play_convert, play_transfer, settled, until_created
from tests.steps.world import World

STEPS: tuple[Callable[[VmContext], object], ...] = (
    transfer.pod_request, convert.pod_request, create_vm.create_vm, verify.verify,
)  # fmt: skip


def not_verified(make_run: MakeRun, world: World, on_failure: str) -> VmContext:
    vm = through_validation(make_run(on_failure=on_failure))
    until_created(vm, world)
    return vm


@pytest.mark.parametrize("on_failure", ["rollback", "hold"])
def test_no_step_goes_on_after_an_undoing_that_was_cut_off_anywhere_and_a_repetition_ends_it(
    make_run: MakeRun, world: World, on_failure: str
) -> None:
    vm = not_verified(make_run, world, on_failure)
    decided = VmPhase.ROLLING_BACK if on_failure == "rollback" else VmPhase.HOLDING
    cut_off = 0
    for fault in range(1, 60):
        world.faults = {world.calls + fault}
        try:
            settle.settle(vm)
            break
        except TemporaryError:
            world.faults = set()
        if vm.store.vm(*vm.key).phase is not decided:
            assert world.all(VIRTUAL_MACHINES), "undone before it was decided"
            continue
        cut_off += 1
        for step in STEPS:
            with pytest.raises(PermanentError, match="settle has begun to undo the VM") as refused:
                step(vm)
            assert refused.value.code == "being-undone"
    assert cut_off > 5
    world.faults = set()
    assert settled(vm)["outcome"] == ("rolled back" if on_failure == "rollback" else "held")
    assert world.all(VIRTUAL_MACHINES) == world.all(INSTANCES) == []
    assert vm.store.vm(*vm.key).holder == ""


@pytest.mark.parametrize("on_failure", ["rollback", "hold"])
def test_prepare_that_is_cleared_ends_an_undoing_that_was_cut_off_and_then_begins_anew(
    make_run: MakeRun, world: World, on_failure: str
) -> None:
    vm = not_verified(make_run, world, on_failure)
    world.faults = {world.calls + 15}
    with pytest.raises(TemporaryError):
        settle.settle(vm)
    assert world.all(VIRTUAL_MACHINES)
    assert vm.store.vm(*vm.key).phase in {VmPhase.ROLLING_BACK, VmPhase.HOLDING}
    prepare.prepare(vm)
    assert world.all(VIRTUAL_MACHINES) == []
    stale = [labels.STALE in claim["metadata"]["annotations"] for claim in world.all(CLAIMS) if "disk" in str(claim)]
    assert any(stale) is (on_failure == "rollback")
    assert {row.state for row in vm.store.steps(vm.run.id) if row.step == "prepare"} == {"success"}
    assert vm.store.run(vm.run.id).state == "running"
    if on_failure == "rollback":
        play_transfer(vm, world)
        play_convert(vm, world)
    else:
        assert transfer.pod_request(vm) is None
        assert convert.pod_request(vm) is None
    create_vm.create_vm(vm)
    verify.verify(vm)
    settle.settle(vm)
    assert settled(vm)["outcome"] == "migrated"


def test_a_rollback_that_was_cut_off_is_ended_as_such_by_the_next_run(make_run: MakeRun, world: World) -> None:
    vm = not_verified(make_run, world, "rollback")
    world.faults = {world.calls + 15}
    with pytest.raises(TemporaryError):
        settle.settle(vm)
    run.close(vm)
    later = through_validation(make_run("r2", on_failure="hold"))
    assert settled(vm)["outcome"] == "rolled back"
    assert world.vm.power is PowerState.ON
    migrate(later, world)


def test_a_machine_that_is_made_while_its_run_is_settled_does_not_stay(
    make_run: MakeRun, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    vm = through_validation(make_run())
    prepare.prepare(vm)
    play_transfer(vm, world)
    play_convert(vm, world)
    ensure = create_vm.machines.ensure

    def slowly(*arguments: object) -> dict[str, object]:
        settle.settle(vm)
        return ensure(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(create_vm.machines, "ensure", slowly)
    with pytest.raises(PermanentError, match="is on on the source"):
        create_vm.create_vm(vm)
    assert world.vm.power is PowerState.ON
    assert world.all(VIRTUAL_MACHINES) == []


@pytest.mark.parametrize("with_namespace", [False, True], ids=["machine", "namespace"])
def test_a_verified_vm_whose_machine_is_gone_before_it_was_accepted_is_let_go_with_its_source_off(
    make_run: MakeRun, world: World, with_namespace: bool
) -> None:
    vm = through_validation(make_run())
    migrate_but_settle(vm, world)
    world.drop(VIRTUAL_MACHINES, "web-1", "demo")
    if with_namespace:
        for claim in world.all(CLAIMS):
            world.drop(CLAIMS, claim["metadata"]["name"], "demo")
        world.drop(NAMESPACES, "demo", "")
    settle.settle(vm)
    assert settled(vm)["outcome"] == "target gone"
    assert (vm.store.vm(*vm.key).phase, vm.store.vm(*vm.key).holder) == (VmPhase.FAILED, "")
    assert world.vm.power is PowerState.OFF
    with pytest.raises(PermanentError, match="its VirtualMachine is gone"):
        run.verdict(vm)
    again = through_validation(make_run("r2"))
    prepare.prepare(again)
    if with_namespace:
        play_transfer(again, world)
        play_convert(again, world)
    else:
        assert transfer.pod_request(again) is None
        assert convert.pod_request(again) is None
    create_vm.create_vm(again)
    verify.verify(again)
    settle.settle(again)
    assert settled(again)["outcome"] == "migrated"


def test_a_vm_that_its_owner_deletes_before_the_acceptance_is_through_stays_migrated(
    make_run: MakeRun, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    vm = through_validation(make_run())
    migrate_but_settle(vm, world)

    def cut_off(*_: object) -> None:
        raise TemporaryError("cut off")

    with monkeypatch.context() as patch:
        patch.setattr(settle.machines, "own_claims", cut_off)
        with pytest.raises(TemporaryError, match="cut off"):
            settle.settle(vm)
    world.drop(VIRTUAL_MACHINES, "web-1", "demo")
    run.close(vm)
    assert run.freeze(make_run("r2")) == []
    assert vm.store.vm(*vm.key).phase is VmPhase.MIGRATED
    assert world.vm.power is PowerState.OFF


@pytest.mark.parametrize("decided", [VmPhase.ROLLING_BACK, VmPhase.HOLDING, VmPhase.ACCEPTING])
def test_a_step_that_still_runs_takes_no_decision_back_and_changes_the_source_no_more(
    make_run: MakeRun, world: World, decided: VmPhase
) -> None:
    """It asked whether it may before `settle` began: what it does next is refused by the store."""
    vm = through_validation(make_run())
    recovery.take(vm)
    seen = source.pinned(vm)
    vm.store.advance(*vm.key, vm.run.id, decided)
    for phase in (VmPhase.PREPARING, VmPhase.TRANSFERRING, VmPhase.CONVERTED, VmPhase.VERIFIED):
        with pytest.raises(StaleHolder, match=f"its phase is {decided.value}"):
            vm.store.advance(*vm.key, vm.run.id, phase)
    with vm.provider("vcenter") as provider, pytest.raises(StaleHolder, match="is settling it"):
        source.shut_down(vm, provider, seen)
    assert world.vm.power is PowerState.ON
    assert vm.store.open_source_changes("first", "web-1") == []


def test_a_shutdown_that_ends_after_its_rollback_has_started_the_source_is_undone(
    make_run: MakeRun, world: World
) -> None:
    vm = through_validation(make_run())

    def rolled_back_but_not_let_go() -> None:
        vm.store.advance(*vm.key, vm.run.id, VmPhase.ROLLING_BACK)
        for change in vm.store.open_source_changes("first", "web-1"):
            vm.store.undo_source_change(change.id)

    world.meanwhile = rolled_back_but_not_let_go
    with pytest.raises(PermanentError, match="lost the VM while it shut the source down"):
        prepare.prepare(vm)
    assert world.vm.power is PowerState.ON
