"""A held VM whose disk claims somebody removed to have a clean copy: nothing of the old one answers for it."""

from __future__ import annotations

import msgspec
import pytest

from mtv.kubevirt.resources import CLAIMS
from mtv.model.errors import PermanentError
from mtv.model.evidence import VmPhase
from mtv.model.plan import BootProof
from mtv.model.source import PowerState
from mtv.model.transfer import TransferSpec
from mtv.steps import create_vm, layout, prepare, settle, transfer, verify
from mtv.steps.context import VmContext
from tests.kubevirt.values import disk, source_vm
from tests.steps.conftest import through_validation
from tests.steps.walk import MakeRun, play_convert, play_transfer
from tests.steps.world import World


def held_after_its_conversion(make_run: MakeRun, world: World, *, disks: int, removed: int) -> VmContext:
    """A VM that was converted and held, of whose claims the first `removed` are gone, in its next run."""
    world.vm = source_vm(disks=tuple(disk(number) for number in range(disks)))
    vm = through_validation(make_run(on_failure="hold"))
    prepare.prepare(vm)
    play_transfer(vm, world)
    play_convert(vm, world)
    settle.settle(vm)
    for claim in layout.recorded(vm).disks[:removed]:
        world.drop(CLAIMS, claim.name, vm.namespace)
    return through_validation(make_run("r2", on_failure="hold"))


@pytest.mark.parametrize("is_proven", [True, False], ids=["proven", "begun"])
def test_a_copy_kept_by_an_earlier_version_goes_on_under_its_disks_former_identity(
    make_run: MakeRun, world: World, is_proven: bool
) -> None:
    kept = through_validation(make_run(on_failure="hold"))
    prepare.prepare(kept)
    old = [disk.identity for disk in world.vm.disks]
    begun = transfer.pod_request(kept)
    assert begun is not None
    if is_proven:
        transfer.finish(kept, world.run_pod(begun))
    settle.settle(kept)
    disks = (
        msgspec.structs.replace(disk, identity=f"{disk.id} by uuid", former_identities=(disk.identity,))
        for disk in world.vm.disks
    )
    world.vm = msgspec.structs.replace(world.vm, disks=tuple(disks))
    vm = through_validation(make_run("r2", on_failure="hold"))
    prepare.prepare(vm)
    request = transfer.pod_request(vm)
    assert (request is None) is is_proven
    if request is not None:  # its journal is of the former identity, and resumes under no other
        spec = msgspec.json.decode(request.secret_files["spec.json"], type=TransferSpec)
        assert [disk.identity for disk in spec.disks] == old


def work_uid(vm: VmContext, world: World) -> str:
    name = layout.recorded(vm).work.name
    return next(str(claim["metadata"]["uid"]) for claim in world.all(CLAIMS) if claim["metadata"]["name"] == name)


@pytest.mark.parametrize(("disks", "removed"), [(1, 1), (2, 1), (2, 2)])
def test_disks_that_are_copied_anew_are_converted_anew(
    make_run: MakeRun, world: World, disks: int, removed: int
) -> None:
    again = held_after_its_conversion(make_run, world, disks=disks, removed=removed)
    before = {claim["metadata"]["uid"] for claim in world.all(CLAIMS)}
    prepare.prepare(again)
    assert work_uid(again, world) not in before
    play_transfer(again, world)
    play_convert(again, world)
    create_vm.create_vm(again)
    verify.verify(again)  # the guest boots only from converted disks
    settle.settle(again)
    assert again.store.vm("first", "web-1").phase is VmPhase.MIGRATED


def test_a_copy_that_no_conversion_has_seen_resumes_though_one_of_its_claims_is_gone(
    make_run: MakeRun, world: World
) -> None:
    world.vm = source_vm(disks=(disk(0), disk(1)))
    vm = through_validation(make_run(on_failure="hold"))
    prepare.prepare(vm)
    play_transfer(vm, world)
    settle.settle(vm)
    before = work_uid(vm, world)
    world.drop(CLAIMS, layout.recorded(vm).disks[0].name, vm.namespace)
    again = through_validation(make_run("r2", on_failure="hold"))
    prepare.prepare(again)
    assert work_uid(again, world) == before
    assert transfer.pod_request(again) is not None


def test_what_a_guest_has_written_before_a_rollback_is_no_copy_that_is_resumed(make_run: MakeRun, world: World) -> None:
    """Its source was off and stays off, so that the next copy is of the same generation as the journal."""
    world.vm = source_vm(power=PowerState.OFF)
    world.is_raw = True
    how = {"skip_guest_conversion": True, "verify": "off", "target_power_state": "on"}
    vm = through_validation(make_run(**how, boot_proof=BootProof(marker="MTV-NEVER-SAID", timeout_s=1)))
    prepare.prepare(vm)
    play_transfer(vm, world)
    create_vm.create_vm(vm)
    with pytest.raises(PermanentError, match="nothing proved its boot"):
        verify.verify(vm)
    settle.settle(vm)
    vm.store.finish_run(vm.run.id, "failed")

    again = through_validation(make_run("r2", **how))
    prepare.prepare(again)
    play_transfer(again, world)
    assert set(world.content.values()) == {"copy of 1"}
