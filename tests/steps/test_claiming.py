"""One source VM, several stores, several clusters: who has taken it, who is refused, and what nobody touches then."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from mtv.kubevirt import labels, leases
from mtv.kubevirt.resources import CLAIMS, INSTANCES, LEASES, NAMESPACES, VIRTUAL_MACHINES
from mtv.model.errors import MtvError, PermanentError, TemporaryError
from mtv.model.evidence import VmPhase
from mtv.model.plan import Plan, Target
from mtv.model.source import PowerState
from mtv.steps import claiming, convert, create_vm, prepare, run, settle, transfer, verify
from mtv.steps.context import VmContext
from mtv.store import Store
from mtv.store.errors import HeldByAnother
from tests.kubevirt.values import source_vm
from tests.steps.conftest import begin, plan_of, through_validation
from tests.steps.test_lost_store import other_store, target
from tests.steps.walk import MakeRun, migrate, migrate_but_settle, play_convert, play_transfer, settled
from tests.steps.world import MemoryCluster, World

__all__ = ["other_store"]


def elsewhere() -> Plan:
    """A plan of another mtv for the same VM, with another name and another namespace."""
    return plan_of().model_copy(update={"name": "theirs", "target": Target(connection="cluster", namespace="other")})


def lease(world: World) -> dict[str, Any]:
    (found,) = world.all(LEASES)
    return found


def refused_to(vm: VmContext) -> PermanentError:
    with pytest.raises(PermanentError) as refused:
        prepare.prepare(vm)
    return refused.value


def test_a_vm_that_another_store_has_taken_is_refused_with_who_and_since_when_and_left_alone(
    make_run: MakeRun, world: World, other_store: Store, tmp_path: Path
) -> None:
    ours = through_validation(make_run())
    prepare.prepare(ours)
    since, before = lease(world)["spec"]["acquireTime"], target(world)
    theirs = through_validation(begin(other_store, world, tmp_path, plan=elsewhere()))
    error = refused_to(theirs)
    assert error.code == "taken-by-another-store"
    for word in (ours.run.id, "plan first", since, ours.store.place):
        assert word in error.message
    assert f"kubectl delete lease -n mtv {lease(world)['metadata']['name']}" in error.cure
    settle.settle(theirs)
    assert settled(theirs)["outcome"] == "not touched"
    assert other_store.vm("theirs", "web-1").holder == ""
    assert (target(world), world.vm.power) == (before, PowerState.OFF)
    play_transfer(ours, world)
    play_convert(ours, world)
    create_vm.create_vm(ours)
    verify.verify(ours)
    settle.settle(ours)
    assert settled(ours)["outcome"] == "migrated"


def test_the_same_plan_in_two_stores_spoils_nothing_of_the_first(
    make_run: MakeRun, world: World, other_store: Store, tmp_path: Path
) -> None:
    """Labels are the same in both: what the second one found by them it would undo."""
    ours = through_validation(make_run())
    migrate_but_settle(ours, world)
    before = target(world)
    theirs = through_validation(begin(other_store, world, tmp_path))
    assert refused_to(theirs).code == "taken-by-another-store"
    settle.settle(theirs)
    assert (target(world), world.vm.power) == (before, PowerState.OFF)
    settle.settle(ours)
    assert settled(ours)["outcome"] == "migrated"


@pytest.mark.parametrize("outcome", ["migrated", "rolled back", "held", "held before the shutdown"])
def test_the_lease_goes_with_the_vm_but_stays_while_it_is_held_off(
    make_run: MakeRun, world: World, other_store: Store, tmp_path: Path, outcome: str
) -> None:
    vm = through_validation(make_run(on_failure="hold" if "held" in outcome else "rollback"))
    if outcome == "migrated":
        migrate_but_settle(vm, world)
    elif outcome == "held before the shutdown":
        world.refusal = PermanentError("no")
        with pytest.raises(PermanentError):
            prepare.prepare(vm)
        world.refusal = None
    else:
        prepare.prepare(vm)
    assert lease(world)["metadata"]["namespace"] == "mtv"
    settle.settle(vm)
    if outcome != "held":
        assert world.all(LEASES) == []
        return
    theirs = through_validation(begin(other_store, world, tmp_path, plan=elsewhere()))
    assert refused_to(theirs).code == "taken-by-another-store"
    run.close(vm)
    migrate(through_validation(make_run("r2")), world)
    assert world.all(LEASES) == []


def test_a_worker_that_died_anywhere_while_it_took_the_lease_finds_it_again(make_run: MakeRun, world: World) -> None:
    vm = through_validation(make_run())
    for fault in range(1, 60):
        world.faults = {world.calls + fault}
        try:
            prepare.prepare(vm)
        except TemporaryError:
            continue
        break
    assert lease(world)["metadata"]["annotations"][labels.STORE] == vm.store.place
    run.close(vm)
    migrate(through_validation(make_run("r2")), world)
    assert world.all(LEASES) == []


def test_a_lease_that_an_ended_run_of_this_store_has_left_is_taken_over(make_run: MakeRun, world: World) -> None:
    vm = through_validation(make_run())
    prepare.prepare(vm)
    left = dict(lease(world))
    settle.settle(vm)
    run.close(vm)
    world.put(LEASES, left)  # as a settle that was cut off, or an operator who restores the cluster, leaves it
    migrate(through_validation(make_run("r2")), world)
    assert world.all(LEASES) == []


def test_a_run_that_ended_unsettled_in_another_plan_still_has_its_vm(make_run: MakeRun, world: World) -> None:
    first = through_validation(make_run())
    prepare.prepare(first)
    run.close(first)
    second = through_validation(make_run("r2", plan=elsewhere()))
    with pytest.raises(HeldByAnother, match="is migrated by plan first") as refused:
        prepare.prepare(second)
    assert "settle" in refused.value.cure


def test_a_restored_store_knows_neither_the_runs_nor_the_tokens_that_came_after(
    make_run: MakeRun, world: World, tmp_path: Path
) -> None:
    ours = through_validation(make_run())
    restored = tmp_path / "restored.sqlite"
    shutil.copy(tmp_path / "store.sqlite", restored)
    prepare.prepare(ours)
    with Store.open(f"sqlite:///{restored}") as store:
        theirs = begin(store, world, tmp_path).for_vm("web-1")
        assert theirs.run.id == ours.run.id
        assert refused_to(theirs).code == "taken-by-another-store"
        settle.settle(theirs)
    assert world.vm.power is PowerState.OFF
    migrate(ours, world)


def test_a_restored_store_that_cannot_reach_the_source_undoes_nothing_of_what_came_after(
    make_run: MakeRun, world: World, tmp_path: Path
) -> None:
    ours = through_validation(make_run())
    restored = tmp_path / "restored.sqlite"
    shutil.copy(tmp_path / "store.sqlite", restored)
    migrate_but_settle(ours, world)
    before = target(world)
    with Store.open(f"sqlite:///{restored}") as store:
        theirs = begin(store, world, tmp_path).for_vm("web-1")
        world.faults = {world.calls + 1}
        with pytest.raises(TemporaryError, match="log in to the source"):
            prepare.prepare(theirs)
        settle.settle(theirs)
        assert settled(theirs)["outcome"] == "not touched"
    assert target(world) == before


def test_of_two_copies_of_a_store_with_the_same_run_the_later_one_stops_the_other(
    make_run: MakeRun, world: World, tmp_path: Path
) -> None:
    ours = through_validation(make_run())
    prepare.prepare(ours)
    restored = tmp_path / "restored.sqlite"
    shutil.copy(tmp_path / "store.sqlite", restored)
    with Store.open(f"sqlite:///{restored}") as store:
        theirs = begin(store, world, tmp_path).for_vm("web-1")
        prepare.prepare(theirs)
        with pytest.raises(PermanentError, match="is taken by run"):
            transfer.pod_request(ours)
        settle.settle(ours)
        assert settled(ours)["outcome"] == "not touched"
        migrate(theirs, world)


@pytest.mark.parametrize("step", ["transfer", "convert", "create_vm", "verify", "settle"])
def test_a_run_whose_vm_another_has_taken_touches_nothing_any_more(
    make_run: MakeRun, world: World, other_store: Store, tmp_path: Path, step: str
) -> None:
    """An operator removed the lease, as the cure says, and this mtv was not gone."""
    ours = through_validation(make_run())
    reached = ["transfer", "convert", "create_vm", "verify", "settle"].index(step)
    prepare.prepare(ours)
    for done in [
        lambda: play_transfer(ours, world),
        lambda: play_convert(ours, world),
        lambda: create_vm.create_vm(ours),
        lambda: verify.verify(ours),
    ][:reached]:
        done()
    world.drop(LEASES, lease(world)["metadata"]["name"], leases.NAMESPACE)
    theirs = through_validation(begin(other_store, world, tmp_path, plan=elsewhere()))
    with theirs.provider("vcenter") as provider, theirs.cluster() as cluster:
        claiming.claim(theirs, provider, cluster, source_vm())
    before = target(world)
    go_on: dict[str, Any] = {
        "transfer": transfer.pod_request,
        "convert": convert.pod_request,
        "create_vm": create_vm.create_vm,
        "verify": verify.verify,
        "settle": settle.settle,
    }
    if step != "settle":
        with pytest.raises(PermanentError, match="is taken by run"):
            go_on[step](ours)
    settle.settle(ours)
    assert settled(ours)["outcome"] == "not touched"
    assert (target(world), world.vm.power) == (before, PowerState.OFF)
    assert lease(world)["metadata"]["annotations"][labels.PLAN] == "theirs"


def other_cluster(world: World) -> None:
    """The target's connection is pointed to a cluster that has nothing of ours."""
    for kind in (CLAIMS, INSTANCES, VIRTUAL_MACHINES, LEASES):
        for body in world.all(kind):
            metadata = body["metadata"]
            world.objects.pop((kind.plural, metadata.get("namespace", ""), metadata["name"]), None)
    world.objects[(NAMESPACES.plural, "", "kube-system")]["metadata"]["uid"] = "another"


def test_a_target_connection_that_leads_to_another_cluster_stops_every_step_and_leaves_the_source_off(
    make_run: MakeRun, world: World
) -> None:
    vm = through_validation(make_run())
    migrate_but_settle(vm, world)
    first = dict(world.objects)
    uid = world.objects[(NAMESPACES.plural, "", "kube-system")]["metadata"]["uid"]
    other_cluster(world)
    for step in (create_vm.create_vm, settle.settle, settle.settle):
        with pytest.raises(PermanentError, match="leads to another cluster") as refused:
            step(vm)
        assert refused.value.code == "another-cluster"
        assert "mtv runs forget" in refused.value.cure
    run.close(vm)
    again = make_run("r2")
    run.freeze(again)
    run.snapshot_inventory(again)
    run.validate(again)
    with pytest.raises(MtvError, match="leads to another cluster"):
        prepare.prepare(again.for_vm("web-1"))
    assert world.vm.power is PowerState.OFF
    assert vm.store.vm(*vm.key).holder == vm.run.id
    world.objects = first
    world.objects[(NAMESPACES.plural, "", "kube-system")]["metadata"]["uid"] = uid
    settle.settle(vm)
    assert settled(vm)["outcome"] == "migrated"


def test_a_cluster_that_is_gone_for_good_is_left_by_letting_go_of_the_row_alone(
    make_run: MakeRun, world: World
) -> None:
    vm = through_validation(make_run())
    prepare.prepare(vm)
    other_cluster(world)
    run.close(vm)
    vm.store.release_vm(*vm.key, vm.run.id, VmPhase.FAILED)
    again = through_validation(make_run("r2"))
    migrate(again, world)
    assert len(world.all(INSTANCES)) == 1, "it ran before the first run shut it down"


def test_a_vm_that_is_held_on_one_cluster_begins_anew_on_another_and_the_first_is_told(
    make_run: MakeRun, world: World
) -> None:
    held = through_validation(make_run(on_failure="hold"))
    prepare.prepare(held)
    settle.settle(held)
    run.close(held)
    uid = world.objects[(NAMESPACES.plural, "", "kube-system")]["metadata"]["uid"]
    other_cluster(world)
    migrate(through_validation(make_run("r2")), world)
    assert any(f"run {held.run.id} took it for another cluster ({uid})" in line for line in world.log)
    assert len(world.all(INSTANCES)) == 1, "it ran before the held run shut it down"


def test_a_source_connection_that_leads_to_another_vcenter_starts_no_vm_of_the_same_id_there(
    make_run: MakeRun, world: World
) -> None:
    vm = through_validation(make_run())
    prepare.prepare(vm)
    world.installation = "vc-2"
    with pytest.raises(PermanentError, match="leads to another source") as refused:
        settle.settle(vm)
    assert refused.value.code == "another-source"
    assert world.vm.power is PowerState.OFF
    world.installation = "vc-1"
    settle.settle(vm)
    assert world.vm.power is PowerState.ON


def test_a_lease_lies_in_one_namespace_whatever_that_of_the_vm(make_run: MakeRun, world: World) -> None:
    vm = through_validation(make_run())
    prepare.prepare(vm)
    with MemoryCluster(world, vm.connections.get("cluster")) as cluster:
        found = leases.read(cluster, f"vsphere:{world.installation}/{world.vm.id}")
    assert found is not None
    assert (found.holder.run, found.holder.vm) == (vm.run.id, "web-1")
    assert vm.namespace != leases.NAMESPACE
