"""How many VMs of a wave are in flight at once.

Airflow limits tasks, not VMs: without this every VM's `prepare` would run ahead and shut its source down long before
its copy can begin. A VM may enter when fewer than the limit before it in the frozen order are still on their way. The
rule looks only at positions and at what has ended, so any number of tasks may ask at once and get the same answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mtv.model.evidence import VmPhase

if TYPE_CHECKING:
    from mtv.store import Run, Store


def may_enter(store: Store, run: Run, vm_id: str, limit: int) -> bool:
    """Is it this VM's turn? A VM that the run does not know may enter; its step then says what is wrong."""
    frozen = run.frozen_vms or ()
    if vm_id not in frozen:
        return True
    position = frozen.index(vm_id)
    # The common case of the first VMs needs no query.
    return position < limit or position < limit + len(ended(store, run))


def ended(store: Store, run: Run) -> set[str]:
    """Return the run's VMs that are through: released by this run, migrated or blocked, or with `settle` ended."""
    through = {
        row.vm_id
        for row in store.vms(run.plan_name)
        if not row.holder and (row.last_run == run.id or row.phase in (VmPhase.MIGRATED, VmPhase.BLOCKED))
    }
    through |= {row.vm_id for row in store.steps(run.id) if row.step == "settle" and row.state != "running"}
    return through & set(run.frozen_vms or ())
