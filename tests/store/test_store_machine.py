"""A state machine over the VM row: whatever runs try in whatever order, only the holder moves it and epochs grow."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from mtv.model.evidence import DECIDED, VmPhase
from mtv.store import AlreadyMigrated, HeldByAnother, StaleHolder, Store

RUNS = st.sampled_from(["r1", "r2", "r3"])
PHASES = st.sampled_from(VmPhase)


class VmRowMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="mtv-store-"))
        self.store = Store.open(f"sqlite:///{self.folder / 's.sqlite'}")
        self.store.upgrade()
        self.holder, self.last, self.phase, self.epoch = "", "", VmPhase.PENDING, 0

    def teardown(self) -> None:
        self.store.close()
        shutil.rmtree(self.folder)

    @rule(run=RUNS)
    def claim(self, run: str) -> None:
        final = not self.holder and self.phase is VmPhase.MIGRATED
        free = self.holder in {"", run} and not final
        try:
            row = self.store.claim_vm("p", "v", run)
        except AlreadyMigrated:
            assert final
        except HeldByAnother as refused:
            assert not free
            assert self.holder in str(refused)  # noqa: PT017  both outcomes are judged
        else:
            assert free
            self.epoch += 1
            self.holder = self.last = run
            assert row.epoch == self.epoch

    @rule(run=RUNS, phase=PHASES, expect=st.none() | st.sets(PHASES))
    def advance(self, run: str, phase: VmPhase, expect: set[VmPhase] | None) -> None:
        allowed = run == self.holder and self.phase not in DECIDED and (expect is None or self.phase in expect)
        try:
            self.store.advance("p", "v", run, phase, expect=expect)
        except StaleHolder:
            assert not allowed
        else:
            assert allowed
            self.phase = phase

    @rule(run=RUNS, settling=st.booleans())
    def bump(self, run: str, settling: bool) -> None:
        allowed = run == self.holder and (settling or self.phase not in DECIDED)
        try:
            epoch = self.store.bump_epoch("p", "v", run, settling=settling)
        except StaleHolder:
            assert not allowed
        else:
            assert allowed
            self.epoch += 1
            assert epoch == self.epoch

    @rule(run=RUNS, phase=PHASES)
    def release(self, run: str, phase: VmPhase) -> None:
        final = not self.holder and self.phase is VmPhase.MIGRATED and phase is not VmPhase.MIGRATED
        allowed = run == self.holder or (not self.holder and run == self.last and not final)
        try:
            self.store.release_vm("p", "v", run, phase)
        except AlreadyMigrated:
            assert final
            assert run == self.last
        except StaleHolder:
            assert not allowed
        else:
            assert allowed
            self.holder, self.phase = "", phase

    @invariant()
    def the_row_is_what_the_model_says(self) -> None:
        row = self.store.vm("p", "v")
        assert (row.holder, row.last_run, row.phase, row.epoch) == (self.holder, self.last, self.phase, self.epoch)


VmRowMachine.TestCase.settings = settings(max_examples=15, stateful_step_count=20)
TestVmRow = VmRowMachine.TestCase
