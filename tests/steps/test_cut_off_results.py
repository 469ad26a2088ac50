"""A pod's result that is read again, because the reading before it was cut off."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from sqlalchemy.exc import DatabaseError

from mtv.kubevirt import labels
from mtv.kubevirt.resources import CLAIMS
from mtv.model.evidence import VmPhase
from mtv.steps import convert, prepare, transfer
from tests.steps.conftest import through_validation
from tests.steps.walk import MakeRun, play_convert, play_transfer
from tests.steps.world import World


@contextmanager
def a_store_that_fails_when_a_vm_becomes(phase: VmPhase, folder: Path) -> Iterator[None]:
    """The store's own file refuses the one change, as one that is full or away just then."""
    trigger = (
        f"CREATE TRIGGER away BEFORE UPDATE ON vms WHEN new.phase = '{phase.value}' AND old.phase != new.phase"
        " BEGIN SELECT RAISE(ABORT, 'away'); END"
    )
    with closing(sqlite3.connect(folder / "store.sqlite", isolation_level=None)) as other:
        other.execute(trigger)
        yield
        other.execute("DROP TRIGGER away")


def test_a_copy_whose_result_was_kept_by_halves_is_read_again_and_is_proven(
    make_run: MakeRun, world: World, tmp_path: Path
) -> None:
    vm = through_validation(make_run())
    prepare.prepare(vm)
    request = transfer.pod_request(vm)
    assert request is not None
    message = world.run_pod(request)
    away = a_store_that_fails_when_a_vm_becomes(VmPhase.TRANSFERRED, tmp_path)
    with away, pytest.raises(DatabaseError, match="away"):
        transfer.finish(vm, message)

    transfer.finish(vm, message)

    assert vm.store.vm(*vm.key).phase is VmPhase.TRANSFERRED
    notes = [claim["metadata"].get("annotations", {}) for claim in world.all(CLAIMS)]
    disks = [note for note in notes if labels.DIGEST in note]
    assert [note.get(labels.GENERATION) for note in disks] == ["1", "1"]
    assert not any(labels.COPYING in note for note in disks)
    play_convert(vm, world)


def test_a_conversion_whose_result_was_kept_by_halves_is_read_again(
    make_run: MakeRun, world: World, tmp_path: Path
) -> None:
    vm = through_validation(make_run())
    prepare.prepare(vm)
    play_transfer(vm, world)
    request = convert.pod_request(vm)
    assert request is not None
    message = world.run_pod(request)
    away = a_store_that_fails_when_a_vm_becomes(VmPhase.CONVERTED, tmp_path)
    with away, pytest.raises(DatabaseError, match="away"):
        convert.finish(vm, message)
    convert.finish(vm, message)
    assert vm.store.vm(*vm.key).phase is VmPhase.CONVERTED
