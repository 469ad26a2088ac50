"""Waits in the triggerer until it is a VM's turn (see `admission`)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from mtv.orchestration.admission import may_enter
from mtv.orchestration.trigger_store import read_store

_LONGEST_WAIT_S = 7 * 24 * 3600


class TurnTrigger(BaseTrigger):
    """Fires when the VM may enter, or after a week, when the task looks again by itself. Its row holds ids only."""

    def __init__(self, *, dag_id: str, run_id: str, vm_id: str, limit: int, poll_s: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.dag_id = dag_id
        self.run_id = run_id
        self.vm_id = vm_id
        self.limit = limit
        self.poll_s = poll_s

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what the trigger row holds."""
        names = ("dag_id", "run_id", "vm_id", "limit", "poll_s")
        return f"{__name__}.TurnTrigger", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look every `poll_s` seconds."""
        for _ in range(max(1, int(_LONGEST_WAIT_S / self.poll_s))):
            if await read_store(self._is_turn):
                break
            await asyncio.sleep(self.poll_s)
        yield TriggerEvent({"vm_id": self.vm_id})  # type: ignore[no-untyped-call]

    def _is_turn(self, store: Any) -> bool:
        run = store.run_of(self.dag_id, self.run_id)
        return run is None or may_enter(store, run, self.vm_id, self.limit)
