"""A source that has to copy its disks first: announced before, removed when the VM is settled, never forgotten."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mtv.model.errors import TemporaryError
from mtv.model.evidence import VmPhase
from mtv.model.source import SourceDisk, SourceVm
from mtv.model.transfer import DiskSource
from mtv.reporting import write_report
from mtv.steps import prepare, settle, transfer
from mtv.steps import run as run_steps
from mtv.steps.context import RunContext, VmContext
from mtv.steps.source_copies import COPIES
from mtv.store import Store
from tests.steps import conftest
from tests.steps.conftest import through_validation
from tests.steps.walk import migrate_but_settle, settled
from tests.steps.world import MemoryProvider, World

COPIED: set[str] = set()


class Copying(MemoryProvider):
    """A source in memory whose disks are readable as copies only."""

    answers = True

    def disk_source(self, vm: SourceVm, disk: SourceDisk, *, transport: str = "auto") -> DiskSource:
        COPIED.add(disk.id)
        return super().disk_source(vm, disk, transport=transport)

    def release_disks(self, vm: SourceVm) -> list[str]:
        if not self.answers:
            raise TemporaryError("the source does not answer")
        removed = sorted(COPIED)
        COPIED.clear()
        return removed


@pytest.fixture(autouse=True)
def copying(monkeypatch: pytest.MonkeyPatch) -> None:
    COPIED.clear()
    monkeypatch.setattr(conftest, "MemoryProvider", Copying)


def kinds(store: Store) -> list[str]:
    return [change.kind for change in store.open_source_changes("first", "web-1")]


def copied(make_run: Callable[..., RunContext]) -> RunContext:
    run = make_run()
    vm = through_validation(run)
    prepare.prepare(vm)
    assert transfer.pod_request(vm) is not None
    return run


def test_copies_are_on_record_while_they_are_there_and_removed_when_the_vm_is_settled(
    make_run: Callable[..., RunContext], store: Store
) -> None:
    run = copied(make_run)
    assert COPIED
    assert kinds(store).count(COPIES) == 1
    settle.settle(run.for_vm("web-1"))
    assert set() == COPIED
    assert kinds(store) == []


def migrated_but_for_settle(make_run: Callable[..., RunContext], world: World) -> VmContext:
    vm = through_validation(make_run())
    migrate_but_settle(vm, world)
    return vm


LEFT = ["vcenter: copies of the disks of web-1"]


def test_a_source_that_does_not_answer_keeps_no_vm_from_being_settled_and_settle_is_tried_again(
    make_run: Callable[..., RunContext], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = copied(make_run)
    vm = run.for_vm("web-1")
    monkeypatch.setattr(Copying, "answers", False)
    with pytest.raises(TemporaryError) as left:
        settle.settle(vm)
    assert left.value.code == "copies-left"
    assert (store.vm("first", "web-1").phase, store.vm("first", "web-1").holder) == (VmPhase.FAILED, "")
    assert store.run(run.run.id).state == "failed", "another run may begin"
    assert (settled(vm)["outcome"], settled(vm)["left"]) == ("rolled back", LEFT)
    assert kinds(store) == [COPIES]
    monkeypatch.setattr(Copying, "answers", True)
    settle.settle(vm)
    assert (settled(vm)["outcome"], settled(vm)["left"]) == ("rolled back", [])
    assert any(str(name).startswith("source: ") for name in settled(vm)["removed"])
    assert set() == COPIED
    assert kinds(store) == []


def test_copies_that_stay_are_told_of_and_the_next_run_of_the_plan_removes_them(
    make_run: Callable[..., RunContext], store: Store, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vm = migrated_but_for_settle(make_run, world)
    monkeypatch.setattr(Copying, "answers", False)
    for _ in range(settle.TRIES_FOR_COPIES - 1):
        with pytest.raises(TemporaryError, match="copies of the disks of web-1"):
            settle.settle(vm)
    settle.settle(vm)  # no task is red for ever because of them
    assert store.vm("first", "web-1").phase is VmPhase.MIGRATED
    assert store.run(vm.run.id).state == "success"
    assert settled(vm)["left"] == LEFT
    assert any("the next run of the plan removes them" in line for line in world.log)
    page = write_report(store, vm.run.id, tmp_path).html.read_text()
    assert "<dt>Left behind</dt><dd>vcenter: copies of the disks of web-1" in page
    assert "copies</b>" in page
    assert page.count("stays, because the VM lives on the target now") == 1, "true of the power state alone"

    assert run_steps.freeze(make_run("r2")) == []  # the source still does not answer, and that stops no run
    assert COPIES in kinds(store)
    store.finish_run(store.runs("first")[0].id, "success")
    monkeypatch.setattr(Copying, "answers", True)
    assert run_steps.freeze(make_run("r3")) == []
    assert COPIES not in kinds(store)
    assert set() == COPIED


def test_copies_of_a_vm_that_a_run_holds_are_left_to_that_run(
    make_run: Callable[..., RunContext], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = copied(make_run).for_vm("web-1")
    monkeypatch.setattr(Copying, "answers", False)
    with pytest.raises(TemporaryError):
        settle.settle(first)
    monkeypatch.setattr(Copying, "answers", True)
    second = make_run("r2")
    prepare.prepare(through_validation(second))
    assert transfer.pod_request(second.for_vm("web-1")) is not None
    settle.settle(first)
    assert COPIED, "the second run reads them"
    settle.settle(second.for_vm("web-1"))
    assert set() == COPIED
    assert kinds(store) == []
