"""The factory's own database behind one object. Safe to share between threads; processes open their own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

from sqlalchemy.exc import DBAPIError

from mtv import __version__
from mtv.store.approvals import Approvals
from mtv.store.database import open_engine, reached
from mtv.store.errors import StoreOlder
from mtv.store.inventories import Inventories
from mtv.store.journal import Journal
from mtv.store.migrate import HEAD, schema_of, upgrade_engine
from mtv.store.nfc_streams import NfcStreams
from mtv.store.standings import Standings
from mtv.store.vms import Vms


class Store(Journal, Vms, NfcStreams, Inventories, Standings, Approvals):
    """Plans, runs, VMs, NFC streams, steps, evidence, source changes, progress, inventories, standings, approvals."""

    @classmethod
    def open(cls, dsn: str) -> Self:
        """Open `sqlite:///file` or `postgresql://…`; ask `is_made`, or call `upgrade`, once before use."""
        return cls(open_engine(dsn))

    def is_made(self) -> bool:
        """Whether the database holds a store of this program; nothing is changed.

        Raises `StoreOlder` and `StoreNewer` for one of another program, else as `upgrade` does.
        """
        with reached(self._engine):
            schema = schema_of(self._engine)
        if schema and schema != HEAD:
            raise StoreOlder(
                f"the store has schema {schema}, and mtv {__version__} needs {HEAD}",
                cure="bring it up to date when Airflow has this version, too: mtv store upgrade; "
                "else use the version of mtv that Airflow runs",
            )
        return bool(schema)

    def upgrade(self, *, despite_runs: bool = False) -> str:
        """Make the tables, or bring them up to date, and return the schema that was there before, "" for none.

        Any number of processes may call this at once. Raises `StoreInUse` rather than change tables under active runs,
        whose workers may be an older program; with `despite_runs` it does not ask. Raises `StoreNewer` for tables of a
        newer program, `TemporaryError` when the database does not answer, `PermanentError` when it is none or may not
        be used.
        """
        with reached(self._engine):
            return upgrade_engine(self._engine, self._writer, despite_runs=despite_runs)

    @contextmanager
    def explaining(self) -> Iterator[None]:
        """Raise `StoreOlder` or `StoreNewer` in place of the database's error where that is its cause.

        Costs nothing until a query fails: who works on a run need not ask for the schema each time.
        """
        try:
            yield
        except DBAPIError:
            self.is_made()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
