"""Movers of a run that was settled: none is asked for any more, and one that comes late is ended before a new copy."""

from __future__ import annotations

import pytest

from mtv.kubevirt import labels
from mtv.kubevirt.resources import CLAIMS, PODS
from mtv.model.evidence import VmPhase
from mtv.steps import convert, prepare, run, settle, transfer
from mtv.store import StaleHolder
from tests.steps.conftest import through_validation
from tests.steps.walk import MakeRun, migrate, play_transfer
from tests.steps.world import MemoryCluster, World


@pytest.mark.parametrize("on_failure", ["rollback", "hold"])
def test_a_pod_that_comes_after_its_run_was_settled_is_ended_before_the_next_run_makes_a_work_volume(
    make_run: MakeRun, world: World, monkeypatch: pytest.MonkeyPatch, on_failure: str
) -> None:
    dead = through_validation(make_run(on_failure=on_failure))
    prepare.prepare(dead)
    play_transfer(dead, world)
    late = convert.pod_request(dead)
    assert late is not None
    settle.settle(dead)
    run.close(dead)
    world.put(PODS, {**late.pod, "status": {"phase": "Running"}})
    create = MemoryCluster.create

    def watched(cluster: MemoryCluster, kind: object, body: dict[str, object], **more: bool) -> object:
        if kind is CLAIMS:
            assert [pod for pod in world.all(PODS) if labels.ROLE in pod["metadata"]["labels"]] == []
        return create(cluster, kind, body, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(MemoryCluster, "create", watched)
    vm = through_validation(make_run("r2"))
    prepare.prepare(vm)
    assert [pod for pod in world.all(PODS) if labels.ROLE in pod["metadata"]["labels"]] == []


def test_pods_of_the_same_run_are_left_to_the_steps_that_find_them_again(make_run: MakeRun, world: World) -> None:
    vm = through_validation(make_run())
    prepare.prepare(vm)
    request = transfer.pod_request(vm)
    assert request is not None
    world.put(PODS, {**request.pod, "status": {"phase": "Running"}})
    prepare.prepare(vm)
    assert [pod["metadata"]["name"] for pod in world.all(PODS)] == [request.name]


def test_no_mover_is_asked_for_once_it_is_decided_what_becomes_of_the_vm(
    make_run: MakeRun, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    vm = through_validation(make_run())
    prepare.prepare(vm)
    bump = vm.store.bump_epoch

    def meanwhile(*key: str) -> int:
        vm.store.advance(*vm.key, vm.run.id, VmPhase.ROLLING_BACK)
        return bump(*key)

    monkeypatch.setattr(vm.store, "bump_epoch", meanwhile)
    with pytest.raises(StaleHolder, match="cannot start a mover"):
        transfer.pod_request(vm)
    monkeypatch.undo()
    settle.settle(vm)
    run.close(vm)
    migrate(through_validation(make_run("r2")), world)
