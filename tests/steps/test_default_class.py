"""A plan that names no StorageClass: disks go to the target's default one, the one for VMs first, or nowhere at all."""

from __future__ import annotations

import pytest

from mtv.kubevirt.resources import CLAIMS, STORAGE_CLASSES
from mtv.model.errors import PermanentError
from mtv.model.evidence import VmPhase
from mtv.model.plan import AcceptedConcern, Plan, StorageTarget
from mtv.steps import prepare
from tests.steps.conftest import SomeConnections, plan_of, through_validation
from tests.steps.walk import MakeRun
from tests.steps.world import MemoryCluster, World

DEFAULT = "storageclass.kubernetes.io/is-default-class"
DEFAULT_FOR_VMS = "storageclass.kubevirt.io/is-default-virt-class"


def unnamed(**changes: object) -> Plan:
    return plan_of().model_copy(update={"storage_map": {"*": StorageTarget(volume_mode="Filesystem")}, **changes})


def mark(world: World, name: str, mark: str) -> None:
    cluster = MemoryCluster(world, SomeConnections().get("cluster"))
    cluster.merge(STORAGE_CLASSES, name, "", {"metadata": {"annotations": {mark: "true"}}})


@pytest.mark.parametrize(
    "marks", [{"fs": DEFAULT}, {"block": DEFAULT, "fs": DEFAULT_FOR_VMS}], ids=["default", "for-vms"]
)
def test_disks_go_to_the_default_class(marks: dict[str, str], make_run: MakeRun, world: World) -> None:
    for name, word in marks.items():
        mark(world, name, word)
    vm = through_validation(make_run(plan=unnamed()))
    prepare.prepare(vm)
    assert {claim["spec"]["storageClassName"] for claim in world.all(CLAIMS)} == {"fs"}


def test_without_a_default_class_the_vm_is_blocked_and_even_accepted_it_stops_before_anything_is_made(
    make_run: MakeRun, world: World
) -> None:
    vm = through_validation(make_run(plan=unnamed()))
    assert vm.store.vm(*vm.key).phase is VmPhase.BLOCKED
    vm.store.finish_run(vm.run.id, "failed")
    entry = AcceptedConcern(id="plan.storage.no_default_class", reason="try", by="jane")
    vm = through_validation(make_run("r2", plan=unnamed(accept_concerns=(entry,))))
    with pytest.raises(PermanentError, match="has no default one"):
        prepare.prepare(vm)
    assert world.all(CLAIMS) == []
