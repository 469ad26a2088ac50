"""Objects that bear the VM's labels and are somebody else's: copied by hand, or cloned. They are never touched."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from mtv.kubevirt import labels
from mtv.kubevirt.resources import CLAIMS, INSTANCES, VIRTUAL_MACHINES
from mtv.model.errors import TemporaryError
from mtv.steps import convert, create_vm, prepare, settle, verify
from mtv.steps.context import VmContext
from tests.steps.conftest import through_validation
from tests.steps.walk import MakeRun, play_convert, play_transfer, settled
from tests.steps.world import World


def clone(world: World, name: str) -> None:
    """What KubeVirt's VirtualMachineClone makes: labels of the first, claims of its own, and it may run."""
    (first,) = (m for m in world.all(VIRTUAL_MACHINES) if m["metadata"]["name"] == "web-1")
    other: dict[str, Any] = copy.deepcopy(first)
    other["metadata"] |= {"name": name, "uid": f"uid-of-{name}"}
    for volume in other["spec"]["template"]["spec"]["volumes"]:
        volume["persistentVolumeClaim"]["claimName"] = f"{name}-{volume['name']}"
    world.objects[(VIRTUAL_MACHINES.plural, "demo", name)] = other
    instance = {"metadata": {**other["metadata"], "uid": f"uid-i-{name}"}, "spec": other["spec"]["template"]["spec"]}
    world.objects[(INSTANCES.plural, "demo", name)] = copy.deepcopy(instance)


def copied_claim(world: World, of: str, name: str) -> None:
    claim = copy.deepcopy(world.objects[(CLAIMS.plural, "demo", of)])
    claim["metadata"] |= {"name": name, "uid": f"uid-of-{name}"}
    world.objects[(CLAIMS.plural, "demo", name)] = claim


def others(world: World) -> list[dict[str, Any]]:
    kinds = (CLAIMS, VIRTUAL_MACHINES)
    return copy.deepcopy([o for kind in kinds for o in world.all(kind) if "mine" in o["metadata"]["name"]])


def created(make_run: MakeRun, world: World, **options: Any) -> VmContext:
    vm = through_validation(make_run(**options))
    prepare.prepare(vm)
    copied_claim(world, "first-web-1-disk-0", "a-mine")
    copied_claim(world, "first-web-1-work", "a-mine-work")
    play_transfer(vm, world)
    play_convert(vm, world)
    create_vm.create_vm(vm)
    return vm


@pytest.mark.parametrize("on_failure", ["rollback", "hold"])
def test_what_a_person_made_of_the_vms_objects_survives_its_undoing(
    make_run: MakeRun, world: World, monkeypatch: pytest.MonkeyPatch, on_failure: str
) -> None:
    vm = created(make_run, world, on_failure=on_failure)
    monkeypatch.setattr(world, "check", lambda: None)  # the clone runs, and is nobody's target
    clone(world, "a-mine")
    before = others(world)
    settle.settle(vm)
    assert others(world) == before
    assert [machine["metadata"]["name"] for machine in world.all(VIRTUAL_MACHINES)] == ["a-mine"]
    assert [instance["metadata"]["name"] for instance in world.all(INSTANCES)] == ["a-mine"]
    assert settled(vm)["outcome"] == ("rolled back" if on_failure == "rollback" else "held")


def test_the_vm_is_accepted_and_not_a_clone_of_it_and_the_clone_gets_none_of_its_disks(
    make_run: MakeRun, world: World
) -> None:
    vm = created(make_run, world)
    clone(world, "a-mine")
    before = others(world)
    verify.verify(vm)
    settle.settle(vm)
    assert others(world) == before
    machine = world.objects[(VIRTUAL_MACHINES.plural, "demo", "web-1")]
    assert machine["metadata"]["annotations"][labels.ACCEPTED] == vm.run.id
    owned = [claim for claim in world.all(CLAIMS) if claim["metadata"].get("ownerReferences")]
    assert {claim["metadata"]["ownerReferences"][0]["uid"] for claim in owned} == {machine["metadata"]["uid"]}


def test_a_clone_is_not_taken_for_the_machine_that_is_to_be_made(make_run: MakeRun, world: World) -> None:
    vm = created(make_run, world)
    clone(world, "a-mine")
    world.drop(VIRTUAL_MACHINES, "web-1", "demo")
    try:
        create_vm.create_vm(vm)
    except TemporaryError:
        assert convert.STEP  # an instance of the clone may be waited for
    assert sorted(machine["metadata"]["name"] for machine in world.all(VIRTUAL_MACHINES)) == ["a-mine", "web-1"]
