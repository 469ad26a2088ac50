"""How many VMs of a wave are in flight at once.

Airflow limits tasks, not VMs: without this every VM's `prepare` would run ahead and shut its source down long before
its copy can begin. A VM may enter when those in flight and those before it in the line are fewer than the limit. The
line is the frozen order; a VM whose tasks were cleared after it was through goes to its end. Who enters leaves the
line, and who comes joins its end, so any number of tasks may ask at once: the answer to the others stays the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mtv.model.errors import PermanentError
from mtv.model.evidence import VmPhase

if TYPE_CHECKING:
    from mtv.store import Run, Store

QUEUE = "queue"
"""Step in the journal: a VM that was through has joined the line again."""


@dataclass(frozen=True)
class Turn:
    """What a VM that asks to enter brings with it."""

    limit: int
    """How many VMs may be in flight at once."""
    goes_on: Callable[[], bool]
    """Whether all that follows in the VM's group is still to run. Asked only of a VM that was through already."""


@dataclass(frozen=True)
class Line:
    """Where the VMs of a run stand that have something to do; `waiting` with the next one first."""

    flying: frozenset[str]
    waiting: tuple[str, ...]
    through: frozenset[str]

    def admits(self, vm_id: str, limit: int) -> bool:
        """Is it this VM's turn?

        One in flight has its place already. One that has nothing to do, or that the run does not know, may enter at
        once; its step then says what is wrong.
        """
        if vm_id in self.waiting:
            ahead = self.waiting.index(vm_id)
        elif vm_id in self.through:
            ahead = len(self.waiting)
        else:
            return True
        return len(self.flying) + ahead < limit


def may_enter(store: Store, run: Run, vm_id: str, limit: int) -> bool:
    """Is it this VM's turn? Changes nothing."""
    return line_of(store, run).admits(vm_id, limit)


def ask_to_enter(store: Store, run: Run, vm_id: str, turn: Turn) -> bool:
    """Is it this VM's turn? One that was through (its tasks were cleared) joins the line first.

    Raises `PermanentError` when what follows was not cleared with it: `settle` would be over already, or run as soon as
    the task before it is over, so that the source is shut down and nothing ever starts it again. Clearing "only failed"
    tasks does this, as `settle` mostly ends well.
    """
    line = line_of(store, run)
    if vm_id in line.through:
        if not turn.goes_on():
            raise PermanentError(
                f"{vm_id} was settled in this run, and prepare was cleared without the tasks up to settle: nothing was"
                " touched",
                cure="clear prepare with all that is downstream of it, or start the wave again",
                code="cleared-alone",
            )
        store.end_step(store.begin_step(run.id, vm_id, QUEUE), state="success")
        line = line_of(store, run)
    return line.admits(vm_id, turn.limit)


def line_of(store: Store, run: Run) -> Line:
    """Read where the run's VMs stand.

    A VM is in flight from the beginning of its last `prepare`, and through once a later `settle` has ended, however.
    One that is migrated, or blocked by this run, has nothing to do; blocked by an earlier run says nothing of this one.
    """
    frozen = run.frozen_vms or ()
    idle = {
        row.vm_id
        for row in store.vms(run.plan_name, frozen)
        if not row.holder
        and (row.phase is VmPhase.MIGRATED or (row.phase is VmPhase.BLOCKED and row.last_run == run.id))
    }
    newest = {step.vm_id: step for step in store.newest_steps(run.id, begun=("prepare", QUEUE), ended=("settle",))}
    flying, waiting, through = (list[str]() for _ in range(3))
    for vm_id in frozen:
        if vm_id in idle:
            continue
        step = newest[vm_id].step if vm_id in newest else ""
        {"settle": through, "prepare": flying}.get(step, waiting).append(vm_id)
    # Who joined the line again comes behind those that have not begun, in the order of joining.
    waiting.sort(key=lambda vm_id: newest[vm_id].id if vm_id in newest else 0)
    return Line(frozenset(flying), tuple(waiting), frozenset(through))
