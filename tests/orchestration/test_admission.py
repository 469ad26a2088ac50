"""At most so many VMs in flight, and never a standstill."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mtv.model.evidence import VmPhase
from mtv.model.plan import Plan, PlannedVm, Target, Wave
from mtv.orchestration.admission import ended, may_enter
from mtv.store import Store


class Flight(RuleBasedStateMachine):
    """VMs ask in any order, enter when they may, and end in any way."""

    @initialize(count=st.integers(1, 8), limit=st.integers(1, 4))
    def begin(self, count: int, limit: int) -> None:
        import tempfile
        from pathlib import Path

        self.folder = tempfile.TemporaryDirectory()
        self.store = Store.open(f"sqlite:///{Path(self.folder.name) / 'store.sqlite'}")
        self.store.upgrade()
        self.limit = limit
        ids = [f"vm-{n}" for n in range(count)]
        wave = Wave(name="w", vms=tuple(PlannedVm(id=vm, name=vm, source="s") for vm in ids))
        plan = Plan(name="p", target=Target(connection="c", namespace="n"), waves=(wave,))
        plan_hash = self.store.put_plan(plan)
        run = self.store.start_run(plan_hash=plan_hash, plan_name="p", wave="w", dag_id="d", dag_run_id="r")
        self.store.freeze_vms(run.id, ids)
        self.run = self.store.run(run.id)
        self.waiting, self.flying, self.through = list(ids), [], []

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def ask(self, data) -> None:
        vm = data.draw(st.sampled_from(self.waiting))
        if may_enter(self.store, self.run, vm, self.limit):
            self.waiting.remove(vm)
            self.flying.append(vm)
            self.store.claim_vm("p", vm, self.run.id)

    @precondition(lambda self: self.flying)
    @rule(data=st.data(), how=st.sampled_from(["migrated", "failed", "settle failed"]))
    def end(self, data, how: str) -> None:
        vm = data.draw(st.sampled_from(self.flying))
        self.flying.remove(vm)
        self.through.append(vm)
        attempt = self.store.begin_step(self.run.id, vm, "settle")
        if how == "settle failed":
            self.store.end_step(attempt, state="failed", error="no")
        else:
            self.store.release_vm("p", vm, self.run.id, VmPhase(how))
            self.store.end_step(attempt, state="success")

    @rule()
    def pass_time(self) -> None:
        """Nothing happens: so that there is something to do once all VMs are through."""

    @invariant()
    def no_more_than_the_limit_fly(self) -> None:
        if hasattr(self, "flying"):
            assert len(self.flying) <= self.limit

    @invariant()
    def somebody_may_enter_while_there_is_room(self) -> None:
        if hasattr(self, "waiting") and self.waiting and len(self.flying) < self.limit:
            assert any(may_enter(self.store, self.run, vm, self.limit) for vm in self.waiting)

    @invariant()
    def what_has_ended_is_known(self) -> None:
        if hasattr(self, "through"):
            assert ended(self.store, self.run) == set(self.through)

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
            self.folder.cleanup()


TestFlight = Flight.TestCase
TestFlight.settings = settings(max_examples=10, stateful_step_count=15)
