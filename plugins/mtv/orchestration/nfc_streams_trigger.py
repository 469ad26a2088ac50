"""Waits in the triggerer until an ESXi host has an NFC stream left."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mtv.orchestration.trigger_store import StoreTrigger

if TYPE_CHECKING:
    from mtv.store import Store


class NfcStreamsTrigger(StoreTrigger):
    """Fires when less than `capacity` streams of `host` are held."""

    fields = ("host", "capacity")

    def __init__(self, *, host: str, capacity: int, poll_s: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.host = host
        self.capacity = capacity
        self.poll_s = poll_s

    def is_over(self, store: Store) -> bool:
        """Return whether a stream is left."""
        return sum(store.nfc_streams(self.host).values()) < self.capacity
