"""The VM rows: one holder, fenced by epochs, moved only by compare-and-set."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import pytest

from mtv.model.evidence import VmPhase
from mtv.store import HeldByAnother, StaleHolder, Store


def test_an_untouched_vm_is_pending_and_free(store: Store) -> None:
    row = store.vm("dc1", "web-1")
    assert (row.phase, row.epoch, row.holder) == (VmPhase.PENDING, 0, "")
    assert store.vms("dc1") == []


def test_a_claim_holds_the_vm_and_raises_its_epoch(store: Store) -> None:
    assert store.claim_vm("dc1", "web-1", "r1").epoch == 1
    again = store.claim_vm("dc1", "web-1", "r1")
    assert (again.holder, again.epoch) == ("r1", 2)


def test_a_claim_of_a_held_vm_names_the_holder_and_changes_nothing(store: Store) -> None:
    held = store.claim_vm("dc1", "web-1", "r1")
    with pytest.raises(HeldByAnother, match="held by run r1"):
        store.claim_vm("dc1", "web-1", "r2")
    assert store.vm("dc1", "web-1") == held


def test_the_same_vm_id_in_two_plans_is_two_vms(store: Store) -> None:
    store.claim_vm("dc1", "web-1", "r1")
    assert store.claim_vm("dc2", "web-1", "r2").holder == "r2"


def test_the_holder_advances_from_an_expected_phase_only(store: Store) -> None:
    store.claim_vm("dc1", "web-1", "r1")
    row = store.advance("dc1", "web-1", "r1", VmPhase.PREPARING, expect={VmPhase.PENDING, VmPhase.FAILED})
    assert row.phase is VmPhase.PREPARING
    with pytest.raises(StaleHolder, match="its phase is preparing"):
        store.advance("dc1", "web-1", "r1", VmPhase.CONVERTED, expect={VmPhase.CONVERTING})
    assert store.advance("dc1", "web-1", "r1", VmPhase.FAILED).phase is VmPhase.FAILED


def test_a_stale_holder_can_change_nothing(store: Store) -> None:
    store.claim_vm("dc1", "web-1", "r1")
    store.release_vm("dc1", "web-1", "r1", VmPhase.FAILED)
    now = store.claim_vm("dc1", "web-1", "r2")
    for attempt in (
        lambda: store.advance("dc1", "web-1", "r1", VmPhase.CREATED),
        lambda: store.bump_epoch("dc1", "web-1", "r1"),
        lambda: store.set_target_name("dc1", "web-1", "r1", "other"),
        lambda: store.release_vm("dc1", "web-1", "r1", VmPhase.PENDING),
    ):
        with pytest.raises(StaleHolder, match="held by run r2"):
            attempt()
    assert store.vm("dc1", "web-1") == now


def test_nobody_advances_a_vm_that_nobody_holds(store: Store) -> None:
    with pytest.raises(StaleHolder, match="nobody holds it"):
        store.advance("dc1", "web-1", "r1", VmPhase.CREATED)


def test_release_may_be_repeated_until_another_run_claims(store: Store) -> None:
    store.claim_vm("dc1", "web-1", "r1")
    for phase in (VmPhase.FAILED, VmPhase.FAILED, VmPhase.PENDING):
        row = store.release_vm("dc1", "web-1", "r1", phase)
        assert (row.holder, row.last_run, row.phase) == ("", "r1", phase)


def test_the_target_name_is_remembered(store: Store) -> None:
    store.claim_vm("dc1", "web-1", "r1")
    store.set_target_name("dc1", "web-1", "r1", "web-new")
    assert store.vm("dc1", "web-1").target_name == "web-new"


def test_of_many_threads_one_claims_the_vm(store: Store) -> None:
    with ThreadPoolExecutor(16) as pool:
        won = [run for run in pool.map(lambda n: _claim(store, f"r{n}"), range(16)) if run]
    assert won == [store.vm("dc1", "web-1").holder]
    assert store.vm("dc1", "web-1").epoch == 1


def test_of_many_processes_one_claims_the_vm(store: Store, dsn: str) -> None:
    with ProcessPoolExecutor(4, mp_context=multiprocessing.get_context("spawn")) as pool:
        won = [run for run in pool.map(_claim_from_outside, [dsn] * 8, [f"r{n}" for n in range(8)]) if run]
    assert won == [store.vm("dc1", "web-1").holder]


def test_no_fencing_is_lost_when_many_bump_the_epoch(store: Store) -> None:
    store.claim_vm("dc1", "web-1", "r1")
    with ThreadPoolExecutor(8) as pool:
        epochs = list(pool.map(lambda _: store.bump_epoch("dc1", "web-1", "r1"), range(24)))
    assert sorted(epochs) == list(range(2, 26))


def test_of_many_advances_from_one_phase_one_wins(store: Store) -> None:
    store.claim_vm("dc1", "web-1", "r1")

    def advance(_: int) -> bool:
        try:
            store.advance("dc1", "web-1", "r1", VmPhase.PREPARING, expect={VmPhase.PENDING})
        except StaleHolder:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(advance, range(8))) == 1


def _claim(store: Store, run_id: str) -> str:
    try:
        return store.claim_vm("dc1", "web-1", run_id).holder
    except HeldByAnother:
        return ""


def _claim_from_outside(dsn: str, run_id: str) -> str:
    with Store.open(dsn) as store:
        return _claim(store, run_id)
