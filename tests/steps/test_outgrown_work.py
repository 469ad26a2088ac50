"""A held VM whose plan was mended so that its conversion needs more room than the work volume has."""

from __future__ import annotations

import pytest

from mtv.kubevirt.resources import CLAIMS
from mtv.model.errors import MtvError, PermanentError
from mtv.model.evidence import VmPhase
from mtv.steps import convert, create_vm, layout, prepare, settle, transfer, verify
from mtv.steps.context import VmContext
from tests.kubevirt.values import GIB, disk, source_vm
from tests.steps.conftest import through_validation
from tests.steps.walk import MakeRun, play_convert, play_transfer
from tests.steps.world import World


def held_before_its_plan_named_a_larger_root_disk(make_run: MakeRun, world: World, said: str = "") -> VmContext:
    """A VM whose conversion failed with `said` (empty: before anything was written), in the run of the mended plan."""
    world.vm = source_vm(disks=(disk(0), disk(1, size_bytes=8 * GIB)))
    vm = through_validation(make_run(on_failure="hold"))
    prepare.prepare(vm)
    play_transfer(vm, world)
    request = convert.pod_request(vm)
    assert request is not None
    with pytest.raises(MtvError):
        convert.finish(vm, said or world.run_pod(request, fails=True))
    settle.settle(vm)
    return through_validation(make_run("r2", on_failure="hold", root_disk="/dev/sdb"))


def test_a_mended_plan_with_a_larger_root_disk_gets_a_larger_work_volume_and_no_second_copy(
    make_run: MakeRun, world: World
) -> None:
    again = held_before_its_plan_named_a_larger_root_disk(make_run, world)
    prepare.prepare(again)
    work = layout.recorded(again).work
    assert work.size_bytes > 8 * GIB
    (claim,) = (claim for claim in world.all(CLAIMS) if claim["metadata"]["name"] == work.name)
    assert claim["spec"]["resources"]["requests"]["storage"] == str(work.size_bytes)
    assert transfer.pod_request(again) is None
    play_convert(again, world)
    create_vm.create_vm(again)
    verify.verify(again)
    settle.settle(again)
    assert again.store.vm("first", "web-1").phase is VmPhase.MIGRATED


@pytest.mark.parametrize("said", ['{"ok": false, "failure": {"code": "qemu-img-commit", "message": "full"}}', "killed"])
def test_the_journal_of_a_commit_that_may_be_under_way_is_never_thrown_away(
    make_run: MakeRun, world: World, said: str
) -> None:
    again = held_before_its_plan_named_a_larger_root_disk(make_run, world, said)
    before = {claim["metadata"]["uid"] for claim in world.all(CLAIMS)}
    with pytest.raises(PermanentError) as refused:
        prepare.prepare(again)
    assert refused.value.code == "claim-differs"
    assert {claim["metadata"]["uid"] for claim in world.all(CLAIMS)} == before
