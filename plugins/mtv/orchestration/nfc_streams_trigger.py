"""Waits in the triggerer until an ESXi host has an NFC stream left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from mtv.orchestration.trigger_store import read_store

if TYPE_CHECKING:
    from mtv.store import Store

_LONGEST_WAIT_S = 7 * 24 * 3600


class NfcStreamsTrigger(BaseTrigger):
    """Fires when less than `capacity` streams of `host` are held, or after a week: the task then looks by itself."""

    def __init__(self, *, host: str, capacity: int, poll_s: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.host = host
        self.capacity = capacity
        self.poll_s = poll_s

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what the trigger row holds."""
        names = ("host", "capacity", "poll_s")
        return f"{__name__}.NfcStreamsTrigger", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look every `poll_s` seconds."""
        for _ in range(max(1, int(_LONGEST_WAIT_S / self.poll_s))):
            if await read_store(self._has_streams):
                break
            await asyncio.sleep(self.poll_s)
        yield TriggerEvent({"host": self.host})  # type: ignore[no-untyped-call]

    def _has_streams(self, store: Store) -> bool:
        return sum(store.nfc_streams(self.host).values()) < self.capacity
