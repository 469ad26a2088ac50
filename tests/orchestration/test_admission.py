"""At most so many VMs in flight, and never a standstill."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mtv.model.errors import PermanentError
from mtv.model.evidence import VmPhase
from mtv.model.plan import Plan, PlannedVm, Target, Wave
from mtv.orchestration.admission import Turn, ask_to_enter, line_of, may_enter
from mtv.store import Run, Store


def start_run(store: Store, ids: list[str], dag_run_id: str) -> Run:
    """Start a run of a plan of these VMs and pin them all."""
    wave = Wave(name="w", vms=tuple(PlannedVm(id=vm, name=vm, source="s") for vm in ids))
    plan = Plan(name="p", target=Target(connection="c", namespace="n"), waves=(wave,))
    run = store.start_run(plan_hash=store.put_plan(plan), plan_name="p", wave="w", dag_id="d", dag_run_id=dag_run_id)
    store.freeze_vms(run.id, ids)
    return store.run(run.id)


def release(store: Store, run: Run, vm: str, phase: VmPhase) -> None:
    store.claim_vm("p", vm, run.id)
    store.release_vm("p", vm, run.id, phase)


class Flight(RuleBasedStateMachine):
    """VMs ask in any order, enter when they may, end in any way, and are cleared to ask again."""

    @initialize(count=st.integers(1, 8), limit=st.integers(1, 4), data=st.data())
    def begin(self, count: int, limit: int, data) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.store = Store.open(f"sqlite:///{Path(self.folder.name) / 'store.sqlite'}")
        self.store.upgrade()
        self.limit = limit
        self.turn = Turn(limit, goes_on=lambda: True)
        ids = [f"vm-{n}" for n in range(count)]
        before = start_run(self.store, ids, "before")
        for vm in data.draw(st.lists(st.sampled_from(ids), unique=True), label="blocked by the run before"):
            release(self.store, before, vm, VmPhase.BLOCKED)
        self.store.finish_run(before.id, "failed")
        self.run = start_run(self.store, ids, "r")
        self.blocked = data.draw(st.lists(st.sampled_from(ids), unique=True), label="blocked by this run")
        for vm in self.blocked:
            release(self.store, self.run, vm, VmPhase.BLOCKED)
        self.waiting, self.flying, self.through = [vm for vm in ids if vm not in self.blocked], [], []

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def ask(self, data) -> None:
        vm = data.draw(st.sampled_from(self.waiting))
        if ask_to_enter(self.store, self.run, vm, self.turn):
            self.waiting.remove(vm)
            self.flying.append(vm)
            self.attempt(vm, "prepare", "success")
            self.store.claim_vm("p", vm, self.run.id)

    @precondition(lambda self: self.flying)
    @rule(data=st.data(), how=st.sampled_from(["migrated", "failed", "settle failed"]))
    def end(self, data, how: str) -> None:
        vm = data.draw(st.sampled_from(self.flying))
        self.flying.remove(vm)
        if how == "settle failed":
            self.attempt(vm, "settle", "failed")
        else:
            self.store.release_vm("p", vm, self.run.id, VmPhase(how))
            self.attempt(vm, "settle", "success")
        if how != "migrated":
            self.through.append(vm)

    @precondition(lambda self: self.flying)
    @rule(data=st.data())
    def try_again(self, data) -> None:
        """`prepare` is tried again: the VM has its place already."""
        vm = data.draw(st.sampled_from(self.flying))
        assert ask_to_enter(self.store, self.run, vm, self.turn)

    @precondition(lambda self: self.through)
    @rule(data=st.data())
    def clear(self, data) -> None:
        for vm in data.draw(st.lists(st.sampled_from(self.through), unique=True, min_size=1)):
            self.through.remove(vm)
            self.waiting.append(vm)

    @rule()
    def pass_time(self) -> None:
        """Nothing happens: so that there is something to do once all VMs are through."""

    @invariant()
    def no_more_than_the_limit_fly(self) -> None:
        if hasattr(self, "flying"):
            assert len(self.flying) <= self.limit
            assert line_of(self.store, self.run).flying == set(self.flying)

    @invariant()
    def somebody_may_enter_while_there_is_room(self) -> None:
        if hasattr(self, "waiting") and self.waiting and len(self.flying) < self.limit:
            assert any(may_enter(self.store, self.run, vm, self.limit) for vm in self.waiting)

    @invariant()
    def what_is_blocked_by_this_run_fails_without_a_turn(self) -> None:
        if hasattr(self, "blocked"):
            assert all(may_enter(self.store, self.run, vm, self.limit) for vm in self.blocked)

    def attempt(self, vm: str, step: str, state) -> None:
        self.store.end_step(self.store.begin_step(self.run.id, vm, step), state=state)

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
            self.folder.cleanup()


TestFlight = Flight.TestCase
TestFlight.settings = settings(max_examples=10, stateful_step_count=15)


def entering(store: Store, run: Run, limit: int) -> int:
    """Let every VM ask once, in frozen order, and count those that entered."""
    entered = 0
    for vm in run.frozen_vms or ():
        if ask_to_enter(store, run, vm, Turn(limit, goes_on=lambda: True)):
            store.end_step(store.begin_step(run.id, vm, "prepare"), state="success")
            store.claim_vm("p", vm, run.id)
            entered += 1
    return entered


def test_a_wave_that_was_blocked_as_a_whole_is_no_free_flight_the_next_time_nor_when_it_is_cleared(tmp_path):
    ids = [f"vm-{n}" for n in range(12)]
    with Store.open(f"sqlite:///{tmp_path / 'store.sqlite'}") as store:
        store.upgrade()
        blocked = start_run(store, ids, "blocked")
        for vm in ids:
            release(store, blocked, vm, VmPhase.BLOCKED)
        store.finish_run(blocked.id, "failed")
        run = start_run(store, ids, "mended")
        assert entering(store, run, 2) == 2
        for vm in ids:
            release(store, run, vm, VmPhase.FAILED)
            store.end_step(store.begin_step(run.id, vm, "settle"), state="success")
        assert entering(store, run, 2) == 2, "all were cleared"
        assert entering(store, run, 2) == 2, "who flies is not held up, and nobody else enters"


def test_a_settled_vm_that_is_cleared_without_what_follows_is_refused_and_does_not_join_the_line(tmp_path):
    with Store.open(f"sqlite:///{tmp_path / 'store.sqlite'}") as store:
        store.upgrade()
        run = start_run(store, ["vm-0"], "r")
        assert entering(store, run, 1) == 1
        store.end_step(store.begin_step(run.id, "vm-0", "settle"), state="success")
        release(store, run, "vm-0", VmPhase.FAILED)
        with pytest.raises(PermanentError, match="vm-0 was settled in this run") as refused:
            ask_to_enter(store, run, "vm-0", Turn(1, goes_on=lambda: False))
        assert refused.value.code == "cleared-alone"
        assert line_of(store, run).through == {"vm-0"}
        assert ask_to_enter(store, run, "vm-0", Turn(1, goes_on=lambda: True))
