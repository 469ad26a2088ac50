"""A source that has to copy its disks first: announced before, removed when the VM is settled, never forgotten."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mtv.model.errors import TemporaryError
from mtv.model.source import SourceDisk, SourceVm
from mtv.model.transfer import DiskSource
from mtv.steps import prepare, settle, transfer
from mtv.steps.context import RunContext
from mtv.steps.source_copies import COPIES
from mtv.store import Store
from tests.steps import conftest
from tests.steps.conftest import through_validation
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


def test_a_source_that_does_not_answer_keeps_no_vm_from_being_settled_and_the_record_stays(
    make_run: Callable[..., RunContext], store: Store, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = copied(make_run)
    monkeypatch.setattr(Copying, "answers", False)
    settle.settle(run.for_vm("web-1"))
    assert kinds(store) == [COPIES]
    assert any("copies of its disks are left" in line for line in world.log)
