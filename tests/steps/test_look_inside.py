"""A hopeless conversion is known before the copy: the pod that looks is run within `prepare`, and leaves nothing."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from mtv.kubevirt.resources import PODS, SECRETS
from mtv.model.conversion import Notice, PreflightResult, PreflightSpec
from mtv.model.errors import PermanentError, TemporaryError
from mtv.model.evidence import EvidenceKind
from mtv.model.plan import AcceptedConcern
from mtv.model.source import PowerState
from mtv.model.transfer import Failure
from mtv.steps import prepare, settle, transfer
from mtv.steps.context import VmContext
from mtv.store import Store
from tests.kubevirt.values import source_vm
from tests.steps.conftest import begin, plan_of, through_validation
from tests.steps.test_guest_options import MakeRun
from tests.steps.world import World

HOPELESS = PreflightResult(ok=False, failure=Failure(code="bitlocker", message="sda2 is encrypted", cure="decrypt it"))


def concerns(vm: VmContext) -> list[dict[str, str]]:
    return list(vm.store.evidence(vm.run.id, "web-1", EvidenceKind.CONCERNS)[-1].document["concerns"])


def test_nothing_is_looked_into_unless_the_plan_asks(make_run: MakeRun, world: World) -> None:
    prepare.prepare(through_validation(make_run()))
    prepare.prepare(through_validation(make_run(preflight=True, skip_guest_conversion=True)))
    assert world.looking == []


def test_a_source_that_is_off_is_looked_into_before_anything_is_done_to_it(make_run: MakeRun, world: World) -> None:
    world.vm = source_vm(power=PowerState.OFF)
    vm = through_validation(make_run(preflight=True, root_disk="/dev/sdb2"))
    prepare.prepare(vm)
    prepare.prepare(vm)
    (pod,) = world.looking
    assert pod["spec"]["containers"][0]["args"] == ["preflight", "--spec", "/run/mtv/spec.json"]
    assert pod["spec"]["containers"][0]["securityContext"]["readOnlyRootFilesystem"]
    assert "canary" not in str(pod)
    (seen,) = vm.store.evidence(vm.run.id, "web-1", EvidenceKind.PREFLIGHT)
    assert msgspec.convert(seen.document, PreflightResult) == world.looked
    assert world.all(PODS) == world.all(SECRETS) == []


def test_the_pod_gets_the_disks_in_boot_order_and_the_credentials_as_files(make_run: MakeRun, world: World) -> None:
    world.vm = source_vm(power=PowerState.OFF)
    made: list[dict[str, dict[str, str]]] = []
    put = world.put
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world, "put", lambda kind, body: made.append(body) if kind is SECRETS else put(kind, body))
        prepare.prepare(through_validation(make_run(preflight=True, root_disk="/dev/sdb2", virtio_win="/v.iso")))
    files = made[0]["stringData"]
    spec = msgspec.json.decode(files["spec.json"], type=PreflightSpec)
    assert [disk.id for disk in spec.disks] == ["disk-2001", "disk-2000"]
    assert (spec.root_disk, spec.virtio_win) == ("/dev/sda2", "/v.iso")
    assert files["password"] == "canary"


def test_a_hopeless_conversion_stops_the_vm_before_the_copy_as_a_critical_concern(
    make_run: MakeRun, world: World
) -> None:
    world.looked = HOPELESS
    vm = through_validation(make_run(preflight=True))
    with pytest.raises(PermanentError, match="sda2 is encrypted") as error:
        prepare.prepare(vm)
    assert (error.value.code, error.value.cure) == ("bitlocker", "decrypt it")
    assert concerns(vm)[0] == {
        "id": "mtv.preflight.bitlocker",
        "category": "Critical",
        "label": "web-1: sda2 is encrypted",
        "assessment": "decrypt it",
    }
    with pytest.raises(PermanentError, match="blocked by 1 critical"):
        prepare.prepare(vm)
    with pytest.raises(PermanentError, match="blocked by 1 critical"):
        transfer.pod_request(vm)
    settle.settle(vm)
    assert world.vm.power is PowerState.ON, "the running source was shut down for the look, and is started again"
    assert world.all(PODS) == []


def test_what_the_plan_accepts_is_shown_and_does_not_stop_the_vm_nor_is_it_looked_for_twice(
    store: Store, world: World, tmp_path: Path
) -> None:
    world.looked, world.vm = HOPELESS, source_vm(power=PowerState.OFF)
    entry = AcceptedConcern(id="mtv.preflight.bitlocker", by="jane", reason="its key is clear")
    plan = plan_of(preflight=True).model_copy(update={"accept_concerns": (entry,)})
    vm = through_validation(begin(store, world, tmp_path, plan=plan))
    prepare.prepare(vm)
    prepare.prepare(vm)
    assert transfer.pod_request(vm) is not None
    (found,) = concerns(vm)
    assert (found["id"], found["category"]) == ("mtv.preflight.bitlocker", "Critical")
    assert found["accepted"] == {"by": "jane", "reason": "its key is clear"}
    assert len(world.looking) == 1
    assert any("accepted by jane" in line for line in world.log)
    said = vm.store.evidence(vm.run.id, "", EvidenceKind.CONCERNS)[-1].document["conditions"]
    assert "plan.accepted_concern_unknown" not in {one["id"] for one in said}


def test_warnings_are_shown_and_stop_nothing(make_run: MakeRun, world: World) -> None:
    world.looked = PreflightResult(ok=True, notices=(Notice(code="fstab-by-path", message="m", cure="c"),))
    vm = through_validation(make_run(preflight=True))
    prepare.prepare(vm)
    assert [(one["id"], one["category"]) for one in concerns(vm)] == [("mtv.preflight.fstab-by-path", "Warning")]


def test_what_may_pass_is_tried_again_and_blocks_nothing(make_run: MakeRun, world: World) -> None:
    again = Failure(code="appliance-failed", message="no memory", retryable=True)
    world.looked, good = PreflightResult(ok=False, failure=again), world.looked
    vm = through_validation(make_run(preflight=True))
    with pytest.raises(TemporaryError, match="no memory"):
        prepare.prepare(vm)
    world.looked = good
    prepare.prepare(vm)
    assert concerns(vm) == []
