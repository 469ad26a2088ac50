"""The factory's own database behind one object. Safe to share between threads; processes open their own."""

from __future__ import annotations

from typing import Self

from mtv.store.approvals import Approvals
from mtv.store.database import open_engine, reached
from mtv.store.inventories import Inventories
from mtv.store.journal import Journal
from mtv.store.migrate import upgrade_engine
from mtv.store.nfc_streams import NfcStreams
from mtv.store.standings import Standings
from mtv.store.vms import Vms


class Store(Journal, Vms, NfcStreams, Inventories, Standings, Approvals):
    """Plans, runs, VMs, NFC streams, steps, evidence, source changes, progress, inventories, standings, approvals."""

    @classmethod
    def open(cls, dsn: str) -> Self:
        """Open `sqlite:///file` or `postgresql://…`; call `upgrade` once before use."""
        return cls(open_engine(dsn))

    def upgrade(self) -> None:
        """Bring the tables up to date. Any number of processes may call this at once.

        Raises `TemporaryError` when the database does not answer, `PermanentError` when it is none or may not be used.
        """
        with reached(self._engine):
            upgrade_engine(self._engine, self._writer)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
