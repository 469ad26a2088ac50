"""A VM through the steps of its run, in the world of these tests: what Airflow and the pods would do."""

from __future__ import annotations

from collections.abc import Callable

from mtv.model.evidence import EvidenceKind
from mtv.steps import convert, create_vm, prepare, settle, transfer, verify
from mtv.steps.context import RunContext, VmContext
from tests.steps.world import World

MakeRun = Callable[..., RunContext]


def play_transfer(vm: VmContext, world: World, **how: bool) -> None:
    request = transfer.pod_request(vm)
    assert request is not None
    transfer.finish(vm, world.run_pod(request, **how))


def play_convert(vm: VmContext, world: World, **how: bool) -> None:
    request = convert.pod_request(vm)
    assert request is not None
    convert.finish(vm, world.run_pod(request, **how))


def until_created(vm: VmContext, world: World) -> None:
    """All steps up to create_vm."""
    prepare.prepare(vm)
    play_transfer(vm, world)
    play_convert(vm, world)
    create_vm.create_vm(vm)


def migrate_but_settle(vm: VmContext, world: World) -> None:
    until_created(vm, world)
    verify.verify(vm)


def migrate(vm: VmContext, world: World) -> None:
    migrate_but_settle(vm, world)
    settle.settle(vm)


def settled(vm: VmContext) -> dict[str, object]:
    """What settle said last of the VM."""
    return vm.store.evidence(vm.run.id, vm.vm.id, EvidenceKind.SETTLED)[-1].document
