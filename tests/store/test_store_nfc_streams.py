"""The NFC streams of a host are shared by all VMs under way, whichever plan and run they are of."""

from __future__ import annotations

import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from mtv.model.evidence import VmPhase
from mtv.store import NfcStreamsTaken, StaleHolder, Store

CAPACITY = 10


def take(store: Store, plan: str, vm: str, run: str, wanted: int, host: str = "esx1") -> int:
    return store.take_nfc_streams(plan, vm, run, host=host, wanted=wanted, capacity=CAPACITY)


def claimed(store: Store, *vms: tuple[str, str, str]) -> None:
    for vm in vms:
        store.claim_vm(*vm)


def test_two_plans_share_the_streams_of_a_host_and_the_next_vm_is_told_who_has_them(store: Store) -> None:
    claimed(store, ("a", "v1", "ra"), ("b", "v1", "rb"), ("b", "v2", "rb"))
    assert take(store, "a", "v1", "ra", 7) == 7
    assert take(store, "b", "v1", "rb", 7) == 3
    with pytest.raises(NfcStreamsTaken, match=r"10 NFC streams of host esx1 are taken by a/v1 \(7\), b/v1 \(3\)"):
        take(store, "b", "v2", "rb", 1)
    assert take(store, "b", "v2", "rb", 1, host="esx2") == 1
    store.release_nfc_streams("a", "v1", "ra")
    assert take(store, "b", "v2", "rb", 8) == 7
    assert (store.nfc_streams("esx1"), store.nfc_streams("esx2")) == ({("b", "v1"): 3, ("b", "v2"): 7}, {})


def test_a_vm_that_asks_again_gives_back_what_it_had_even_if_it_has_to_wait(store: Store) -> None:
    claimed(store, ("a", "v1", "ra"), ("b", "v1", "rb"))
    assert take(store, "b", "v1", "rb", 10, host="esx2") == 10
    assert take(store, "a", "v1", "ra", 10) == 10
    assert take(store, "a", "v1", "ra", 10) == 10
    with pytest.raises(NfcStreamsTaken):
        take(store, "b", "v1", "rb", 1)
    assert store.nfc_streams("esx2") == {}


def test_a_vm_that_is_settled_holds_no_streams_though_nobody_gave_them_back(store: Store) -> None:
    claimed(store, ("a", "v1", "ra"), ("b", "v1", "rb"))
    assert take(store, "a", "v1", "ra", 10) == 10
    store.release_vm("a", "v1", "ra", VmPhase.FAILED)
    assert take(store, "b", "v1", "rb", 10) == 10


def test_a_run_that_takes_a_vm_again_after_it_was_settled_begins_without_streams(store: Store) -> None:
    claimed(store, ("a", "v1", "ra"))
    assert take(store, "a", "v1", "ra", 10) == 10
    claimed(store, ("a", "v1", "ra"))  # it never let go: its mover may still be there
    assert store.nfc_streams("esx1") == {("a", "v1"): 10}
    store.release_vm("a", "v1", "ra", VmPhase.FAILED)
    claimed(store, ("a", "v1", "ra"))
    assert store.nfc_streams("esx1") == {}


def test_the_run_that_holds_the_vm_next_takes_streams_of_its_own_and_the_late_one_gets_none(store: Store) -> None:
    claimed(store, ("a", "v1", "old"))
    assert take(store, "a", "v1", "old", 10) == 10
    store.release_vm("a", "v1", "old", VmPhase.FAILED)
    store.claim_vm("a", "v1", "new")
    assert store.nfc_streams("esx1") == {}
    assert take(store, "a", "v1", "new", 4) == 4
    store.release_nfc_streams("a", "v1", "old")
    with pytest.raises(StaleHolder):
        take(store, "a", "v1", "old", 1)
    assert store.nfc_streams("esx1") == {("a", "v1"): 4}


def test_many_that_ask_at_once_never_get_more_than_there_are(store: Store) -> None:
    runs = [f"r{number}" for number in range(16)]
    claimed(store, *((run, "v", run) for run in runs))

    def ask(run: str) -> int:
        try:
            return take(store, run, "v", run, 3)
        except NfcStreamsTaken:
            return 0

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(ask, runs), reverse=True) == [3, 3, 3, 1] + [0] * 12


RUNS, VMS, HOSTS = st.sampled_from(["r1", "r2"]), st.sampled_from(["v1", "v2", "v3"]), st.sampled_from(["h1", "h2"])


class StreamsMachine(RuleBasedStateMachine):
    """Whatever is claimed, taken, given back and settled in whatever order, the counts are those of the holders."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="mtv-store-"))
        self.store = Store.open(f"sqlite:///{self.folder / 's.sqlite'}")
        self.store.upgrade()
        self.holder: dict[str, str] = {}
        self.held: dict[str, tuple[str, int]] = {}

    def teardown(self) -> None:
        self.store.close()
        shutil.rmtree(self.folder)

    def used(self, host: str) -> int:
        return sum(streams for where, streams in self.held.values() if where == host)

    @rule(vm=VMS, run=RUNS)
    def claim(self, vm: str, run: str) -> None:
        if self.holder.get(vm, run) == run:
            self.store.claim_vm("p", vm, run)
            self.holder[vm] = run

    @rule(vm=VMS, run=RUNS, host=HOSTS, wanted=st.integers(1, 12))
    def take(self, vm: str, run: str, host: str, wanted: int) -> None:
        if self.holder.get(vm) != run:
            with pytest.raises(StaleHolder):
                take(self.store, "p", vm, run, wanted, host)
            return
        self.held.pop(vm, None)
        left = CAPACITY - self.used(host)
        if left == 0:
            with pytest.raises(NfcStreamsTaken):
                take(self.store, "p", vm, run, wanted, host)
            return
        granted = take(self.store, "p", vm, run, wanted, host)
        assert granted == min(wanted, left)
        self.held[vm] = (host, granted)

    @rule(vm=VMS, run=RUNS)
    def give_back(self, vm: str, run: str) -> None:
        self.store.release_nfc_streams("p", vm, run)
        if self.holder.get(vm) == run:
            self.held.pop(vm, None)

    @rule(vm=VMS, run=RUNS)
    def settle(self, vm: str, run: str) -> None:
        if self.holder.get(vm) == run:
            self.store.release_vm("p", vm, run, VmPhase.FAILED)
            del self.holder[vm]
            self.held.pop(vm, None)

    @invariant()
    def the_counts_are_those_of_the_holders(self) -> None:
        for host in ("h1", "h2"):
            expected = {("p", vm): streams for vm, (where, streams) in self.held.items() if where == host}
            assert self.store.nfc_streams(host) == expected
            assert sum(expected.values()) <= CAPACITY


StreamsMachine.TestCase.settings = settings(max_examples=15, stateful_step_count=25)
TestStreams = StreamsMachine.TestCase
