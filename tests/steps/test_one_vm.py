from __future__ import annotations

import json
from collections.abc import Callable

import msgspec
import pytest

from mtv.kubevirt import labels
from mtv.kubevirt.resources import CLAIMS, INSTANCES, PODS, VIRTUAL_MACHINES
from mtv.model.errors import DriftError, PermanentError, TemporaryError
from mtv.model.evidence import EvidenceKind, VmPhase
from mtv.model.plan import BootProof
from mtv.model.source import PowerState
from mtv.model.transfer import Failure, TransferResult
from mtv.reporting import read_run
from mtv.steps import convert, create_vm, prepare, run, settle, transfer, verify
from mtv.steps.context import VmContext
from tests.kubevirt.values import disk, source_vm
from tests.steps.conftest import through_validation
from tests.steps.walk import MakeRun, migrate, play_convert, play_transfer, settled
from tests.steps.world import World


def test_a_running_vm_ends_up_running_on_the_target_and_off_on_the_source(make_run: MakeRun, world: World) -> None:
    started = make_run()
    vm = through_validation(started)
    migrate(vm, world)
    run.verdict(started)
    assert world.vm.power is PowerState.OFF
    assert [i["metadata"]["name"] for i in world.all(INSTANCES)] == ["web-1"]
    assert vm.store.vm("first", "web-1").phase is VmPhase.MIGRATED
    assert settled(vm)["outcome"] == "migrated"
    assert vm.store.run(started.run.id).state == "success"
    boot = vm.store.latest_evidence("first", "web-1", EvidenceKind.BOOT)
    assert boot is not None
    assert boot["proven"] is True
    assert boot["lines"][0].startswith("MTV-PAYLOAD")


def test_after_success_only_disks_and_the_vm_that_owns_them_remain(make_run: MakeRun, world: World) -> None:
    migrate(through_validation(make_run()), world)
    assert sorted(claim["metadata"]["name"] for claim in world.all(CLAIMS)) == [
        "first-web-1-disk-0",
        "first-web-1-disk-1",
    ]
    owners = {claim["metadata"]["ownerReferences"][0]["name"] for claim in world.all(CLAIMS)}
    assert owners == {"web-1"}
    assert [pod["metadata"]["name"] for pod in world.all(PODS)] == ["virt-launcher-web-1"]


def test_the_shutdown_is_recorded_before_it_happens_and_stays_on_record(make_run: MakeRun, world: World) -> None:
    vm = through_validation(make_run())
    seen: list[int] = []
    power_off = world.power

    def spy(state: PowerState) -> None:
        seen.append(len(vm.store.open_source_changes("first", "web-1")))
        power_off(state)

    world.power = spy  # type: ignore[method-assign]
    migrate(vm, world)
    assert seen == [1]
    assert [change.kind for change in vm.store.open_source_changes("first", "web-1")] == ["power"]


def test_a_vm_that_was_off_stays_off_and_is_not_asked_to_boot(make_run: MakeRun, world: World) -> None:
    world.vm = source_vm(power=PowerState.OFF)
    vm = through_validation(make_run())
    migrate(vm, world)
    assert world.all(INSTANCES) == []
    boot = vm.store.latest_evidence("first", "web-1", EvidenceKind.BOOT)
    assert boot is not None
    assert (boot["proven"], boot["how"]) == (False, "not asked")


def test_a_throw_away_boot_proves_a_vm_that_stays_off_and_leaves_nothing(make_run: MakeRun, world: World) -> None:
    world.vm = source_vm(power=PowerState.OFF)
    vm = through_validation(make_run(boot_proof=BootProof(marker="MTV-BOOT-OK", timeout_s=5, throw_away=True)))
    migrate(vm, world)
    assert world.all(INSTANCES) == []
    assert world.all(PODS) == []
    boot = vm.store.latest_evidence("first", "web-1", EvidenceKind.BOOT)
    assert boot is not None
    assert boot["proven"] is True
    assert boot["throw_away"] is True


def test_a_boot_that_nothing_proves_fails_and_keeps_the_console(make_run: MakeRun, world: World) -> None:
    world.console = "ALERT! UUID=1 does not exist. Dropping to a shell!\n"
    vm = through_validation(make_run())
    with pytest.raises(PermanentError, match="nothing proved its boot"):
        migrate(vm, world)
    boot = vm.store.latest_evidence("first", "web-1", EvidenceKind.BOOT)
    assert boot is not None
    assert boot["lines"] == ["ALERT! UUID=1 does not exist. Dropping to a shell!"]


@pytest.mark.parametrize("connected", ["True", "False"])
def test_a_guest_that_says_nothing_on_its_console_is_proven_by_its_agent_alone(
    make_run: MakeRun, world: World, connected: str
) -> None:
    world.console, world.agent = "", connected
    vm = through_validation(make_run(boot_proof=BootProof(timeout_s=5)))
    if connected == "True":
        migrate(vm, world)
    else:
        with pytest.raises(PermanentError, match="nothing proved its boot"):
            migrate(vm, world)
    boot = vm.store.latest_evidence("first", "web-1", EvidenceKind.BOOT)
    assert boot is not None
    assert (boot["proven"], boot["how"]) == ((True, "guest agent") if connected == "True" else (False, "nothing seen"))


def test_a_marker_that_was_asked_for_is_not_proven_by_the_agent(make_run: MakeRun, world: World) -> None:
    world.console, world.agent = "", "True"
    vm = through_validation(make_run(boot_proof=BootProof(marker="MTV-BOOT-OK", timeout_s=5)))
    with pytest.raises(PermanentError, match="nothing proved its boot"):
        migrate(vm, world)


def test_a_failed_conversion_with_rollback_leaves_the_source_on_and_stale_disks_only(
    make_run: MakeRun, world: World
) -> None:
    started = make_run()
    vm = through_validation(started)
    prepare.prepare(vm)
    play_transfer(vm, world)
    with pytest.raises(PermanentError, match="guest root full"):
        play_convert(vm, world, fails=True)
    settle.settle(vm)
    assert world.vm.power is PowerState.ON
    assert world.all(VIRTUAL_MACHINES) == world.all(PODS) == []
    assert {claim["metadata"]["annotations"][labels.STALE] for claim in world.all(CLAIMS)} == {"true"}
    assert vm.store.open_source_changes("first", "web-1") == []
    assert settled(vm)["outcome"] == "rolled back"
    assert settled(vm)["source_power"] == "on"
    with pytest.raises(PermanentError, match="web-1: convert: web-1: guest root full"):
        run.verdict(started)


def test_a_retry_after_rollback_copies_what_the_guest_wrote_since(make_run: MakeRun, world: World) -> None:
    vm = through_validation(make_run())
    prepare.prepare(vm)
    play_transfer(vm, world)
    play_convert(vm, world)
    settle.settle(vm)
    world.generation += 5
    again = through_validation(make_run("r2"))
    migrate(again, world)  # the world refuses to boot anything but a converted copy of the source as it is
    assert again.store.vm("first", "web-1").phase is VmPhase.MIGRATED


def test_a_retry_after_hold_converts_without_copying(make_run: MakeRun, world: World) -> None:
    vm = through_validation(make_run(on_failure="hold"))
    prepare.prepare(vm)
    play_transfer(vm, world)
    with pytest.raises(PermanentError):
        play_convert(vm, world, fails=True)
    settle.settle(vm)
    assert settled(vm)["outcome"] == "held"
    assert world.vm.power is PowerState.OFF

    again = through_validation(make_run("r2", on_failure="hold"))
    prepare.prepare(again)
    assert transfer.pod_request(again) is None
    play_convert(again, world)
    create_vm.create_vm(again)
    assert [i["metadata"]["name"] for i in world.all(INSTANCES)] == ["web-1"], "it ran before the factory touched it"
    verify.verify(again)
    settle.settle(again)
    assert again.store.vm("first", "web-1").phase is VmPhase.MIGRATED
    steps = {row.step: row.state for row in again.store.steps(again.run.id)}
    assert steps["transfer"] == "skipped"
    first, second = (read_run(vm.store, one.run.id).vms[0] for one in (vm, again))
    assert second.earlier == ("transfer",)
    assert [disk.digest for disk in second.disks] == [disk.digest for disk in first.disks]
    assert all(disk.digest and disk.read_bytes is None for disk in second.disks)


def test_a_retry_after_hold_does_not_convert_again_what_is_converted(make_run: MakeRun, world: World) -> None:
    vm = through_validation(make_run(on_failure="hold"))
    prepare.prepare(vm)
    play_transfer(vm, world)
    play_convert(vm, world)
    settle.settle(vm)
    again = through_validation(make_run("r2", on_failure="hold"))
    prepare.prepare(again)
    assert transfer.pod_request(again) is None
    assert convert.pod_request(again) is None
    (told,) = read_run(vm.store, again.run.id).vms
    assert told.earlier == ("transfer", "conversion")
    assert all(disk.converted_digest for disk in told.disks)


def test_a_held_vm_that_somebody_started_meanwhile_is_copied_again(make_run: MakeRun, world: World) -> None:
    vm = through_validation(make_run(on_failure="hold"))
    prepare.prepare(vm)
    play_transfer(vm, world)
    play_convert(vm, world)
    settle.settle(vm)
    world.power(PowerState.ON)
    again = through_validation(make_run("r2", on_failure="hold"))
    migrate(again, world)
    assert again.store.vm("first", "web-1").phase is VmPhase.MIGRATED


def test_a_source_started_during_the_copy_spoils_the_copy(make_run: MakeRun, world: World) -> None:
    vm = through_validation(make_run())
    prepare.prepare(vm)
    request = transfer.pod_request(vm)
    assert request is not None
    message = world.run_pod(request)
    world.power(PowerState.ON)
    world.power(PowerState.OFF)
    with pytest.raises(TemporaryError, match="changed on the source"):
        transfer.finish(vm, message)
    play_transfer(vm, world)
    play_convert(vm, world)
    create_vm.create_vm(vm)


def test_where_on_its_disks_a_copy_failed_is_in_the_evidence(make_run: MakeRun, world: World) -> None:
    vm = through_validation(make_run())
    prepare.prepare(vm)
    assert transfer.pod_request(vm) is not None
    wrong = Failure(code="target-mismatch", message="reads back wrong", disk="2001", offset=4097)
    with pytest.raises(PermanentError, match="web-1, disk 2001 at byte 4097: reads back wrong"):
        transfer.finish(vm, msgspec.json.encode(TransferResult(ok=False, failure=wrong)).decode())
    failure = vm.store.evidence(vm.run.id, "web-1", EvidenceKind.FAILURE)[-1].document
    assert (failure["step"], failure["disk"], failure["offset"]) == ("transfer", "2001", 4097)


def test_a_changed_source_is_drift_and_nothing_is_touched(make_run: MakeRun, world: World) -> None:
    vm = through_validation(make_run())
    world.vm = msgspec.structs.replace(world.vm, disks=(*world.vm.disks, disk(2)))
    with pytest.raises(DriftError, match="changed since it was validated"):
        prepare.prepare(vm)
    assert world.vm.power is PowerState.ON
    assert world.all(CLAIMS) == []


@pytest.mark.parametrize(("pinned", "found"), [(PowerState.ON, PowerState.OFF), (PowerState.OFF, PowerState.ON)])
def test_a_source_that_somebody_else_stopped_or_started_is_drift(
    make_run: MakeRun, world: World, pinned: PowerState, found: PowerState
) -> None:
    world.power(pinned)
    vm = through_validation(make_run())
    world.power(found)
    with pytest.raises(DriftError, match=f"power was {pinned}, is {found}"):
        prepare.prepare(vm)
    assert world.vm.power is found
    assert world.all(CLAIMS) == []


def test_a_source_that_gets_a_snapshot_between_copy_and_cutover_is_drift(make_run: MakeRun, world: World) -> None:
    vm = through_validation(make_run())
    prepare.prepare(vm)
    world.vm = msgspec.structs.replace(world.vm, document={"snapshot": {"id": "snapshot-7"}})
    with pytest.raises(DriftError, match="snapshots was empty, is snapshot-7"):
        transfer.pod_request(vm)


def test_a_critical_concern_blocks_the_vm_before_anything_is_touched(make_run: MakeRun, world: World) -> None:
    world.vm = source_vm(is_template=True, power=PowerState.OFF)
    vm = through_validation(make_run())
    assert vm.store.vm("first", "web-1").phase is VmPhase.BLOCKED
    with pytest.raises(PermanentError, match="critical concern"):
        prepare.prepare(vm)
    settle.settle(vm)
    assert settled(vm)["outcome"] == "blocked"
    assert world.all(CLAIMS) == []


@pytest.mark.parametrize("judged", [False, True], ids=["not-judged", "found-clean"])
def test_a_vm_that_an_earlier_run_blocked_is_not_called_blocked_by_one_that_does_not(
    judged: bool, make_run: MakeRun, world: World
) -> None:
    world.vm = source_vm(is_template=True)
    before = through_validation(make_run())
    settle.settle(before)
    world.vm = source_vm()
    started = make_run("r2")
    if judged:
        vm = through_validation(started)
    else:
        run.freeze(started)
        vm = started.for_vm("web-1")
    settle.settle(vm)
    assert settled(vm)["outcome"] == "not touched"


def test_steps_of_a_migrated_vm_may_be_cleared_alone_and_do_nothing(make_run: MakeRun, world: World) -> None:
    vm = through_validation(make_run())
    migrate(vm, world)
    before = json.dumps([world.vm.power.value, {str(k): v for k, v in world.objects.items()}])
    prepare.prepare(vm)
    assert transfer.pod_request(vm) is None
    assert convert.pod_request(vm) is None
    create_vm.create_vm(vm)
    verify.verify(vm)
    settle.settle(vm)
    assert json.dumps([world.vm.power.value, {str(k): v for k, v in world.objects.items()}]) == before


@pytest.mark.parametrize("step", [transfer.pod_request, convert.pod_request, create_vm.create_vm, verify.verify])
def test_a_step_cleared_alone_before_its_time_names_the_task_to_clear(
    make_run: MakeRun, world: World, step: Callable[[VmContext], object]
) -> None:
    vm = through_validation(make_run())
    with pytest.raises(PermanentError, match="clear the task prepare"):
        step(vm)
    prepare.prepare(vm)
    settle.settle(vm)
    with pytest.raises(PermanentError, match="clear the task prepare"):
        step(vm)


def test_a_vm_left_held_by_a_dead_run_is_settled_by_the_next(make_run: MakeRun, world: World) -> None:
    first = make_run()
    vm = through_validation(first)
    prepare.prepare(vm)
    play_transfer(vm, world)
    run.close(first)  # the run was marked failed, and its worker is gone
    again = through_validation(make_run("r2"))
    assert world.vm.power is PowerState.ON, "the next run sees the source as it should be"
    migrate(again, world)
    assert again.store.vm("first", "web-1").phase is VmPhase.MIGRATED


def test_a_migrated_vm_is_left_out_of_the_next_run(make_run: MakeRun, world: World) -> None:
    first = make_run()
    migrate(through_validation(first), world)
    run.verdict(first)
    assert run.freeze(make_run("r2")) == []


def test_a_name_that_is_taken_on_the_target_is_refused(make_run: MakeRun, world: World) -> None:
    vm = through_validation(make_run())
    prepare.prepare(vm)
    play_transfer(vm, world)
    play_convert(vm, world)
    foreign = {"metadata": {"name": "web-1", "namespace": "demo"}, "spec": {"runStrategy": "Halted", "template": {}}}
    world.put(VIRTUAL_MACHINES, foreign)
    with pytest.raises(PermanentError, match="did not make"):
        create_vm.create_vm(vm)
    settle.settle(vm)
    assert [m["metadata"]["name"] for m in world.all(VIRTUAL_MACHINES)] == ["web-1"], "it is not ours to remove"
