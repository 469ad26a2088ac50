"""Waits in the triggerer until it is a VM's turn (see `admission`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mtv.orchestration.admission import may_enter
from mtv.orchestration.trigger_store import StoreTrigger

if TYPE_CHECKING:
    from mtv.store import Store


class TurnTrigger(StoreTrigger):
    """Fires when the VM may enter. Its row holds ids only."""

    fields = ("dag_id", "run_id", "vm_id", "limit")

    def __init__(self, *, dag_id: str, run_id: str, vm_id: str, limit: int, poll_s: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.dag_id = dag_id
        self.run_id = run_id
        self.vm_id = vm_id
        self.limit = limit
        self.poll_s = poll_s

    def is_over(self, store: Store) -> bool:
        """Return whether the VM may enter, or its run is gone."""
        run = store.run_of(self.dag_id, self.run_id)
        return run is None or may_enter(store, run, self.vm_id, self.limit)
