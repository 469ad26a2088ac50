"""VMs of one name: the plan cannot tell which is meant, but a run that has begun knows its VM by the id."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import msgspec
import pytest

from mtv.model.connection import Connection
from mtv.model.errors import PermanentError
from mtv.model.evidence import EvidenceKind, VmPhase
from mtv.model.source import PowerState, SourceVm
from mtv.steps import prepare, settle, source
from mtv.steps.context import VmContext
from tests.steps.conftest import through_validation
from tests.steps.walk import MakeRun
from tests.steps.world import MemoryProvider, World


class Crowded(MemoryProvider):
    """A source where another VM of the same name comes first."""

    def vms(self, names: Iterable[str] | None = None) -> list[SourceVm]:
        ours = super().vms(names)
        return [msgspec.structs.replace(ours[0], id="vm-0", uuid="another"), *ours]


def crowd(vm: VmContext, world: World) -> VmContext:
    """The same VM, now with a namesake on its source."""

    def crowded(connection: Connection) -> Crowded:
        return Crowded(world, connection)

    return dataclasses.replace(vm, open_provider=crowded)


def test_a_name_that_two_vms_have_blocks_that_vm_and_names_both(make_run: MakeRun, world: World) -> None:
    started = make_run()
    started = dataclasses.replace(started, open_provider=lambda connection: Crowded(world, connection))
    vm = through_validation(started)
    assert vm.store.vm(*vm.key).phase is VmPhase.BLOCKED
    (row,) = vm.store.evidence(started.run.id, "web-1", EvidenceKind.CONCERNS)
    (ambiguous,) = [one for one in row.document["concerns"] if one["id"] == "plan.vm.ambiguous"]
    assert "(vm-0)" in ambiguous["label"]
    assert f"({world.vm.id})" in ambiguous["label"]


def test_a_namesake_that_appears_later_stops_neither_the_shutdown_nor_the_way_back(
    make_run: MakeRun, world: World
) -> None:
    world.power(PowerState.ON)
    vm = crowd(through_validation(make_run()), world)
    prepare.prepare(vm)
    assert world.vm.power is PowerState.OFF
    assert source.final(vm).id == world.vm.id
    assert source.power_back_on(vm) is PowerState.ON
    assert world.vm.power is PowerState.ON


def test_another_vm_that_has_taken_the_name_is_still_no_substitute(make_run: MakeRun, world: World) -> None:
    vm = through_validation(make_run())
    world.vm = msgspec.structs.replace(world.vm, id="vm-99")
    with pytest.raises(PermanentError, match="is another VM now"):
        prepare.prepare(vm)
    settle.settle(vm)
