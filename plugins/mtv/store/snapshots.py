"""Inventory snapshots of the sources."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import delete, select

from mtv.store.database import Database
from mtv.store.rows import Inventory
from mtv.store.tables import InventoryRecord

KEPT_SNAPSHOTS = 20
"""How many snapshots of a source are kept."""


class Snapshots(Database):
    """The part of the store about what the sources looked like."""

    def put_inventory(self, source: str, documents: Iterable[dict[str, Any]]) -> None:
        """Keep a snapshot of a source (a connection id) and drop all but the newest few."""
        with self._writing() as session:
            session.add(InventoryRecord(source=source, documents=list(documents), taken_at=datetime.now(UTC)))
            session.flush()
            kept = (
                select(InventoryRecord.id)
                .where(InventoryRecord.source == source)
                .order_by(InventoryRecord.id.desc())
                .limit(KEPT_SNAPSHOTS)
            )
            session.execute(
                delete(InventoryRecord).where(InventoryRecord.source == source, InventoryRecord.id.not_in(kept))
            )

    def inventory(self, source: str) -> Inventory | None:
        """Return the newest snapshot of a source; None when there is none yet."""
        query = (
            select(InventoryRecord).where(InventoryRecord.source == source).order_by(InventoryRecord.id.desc()).limit(1)
        )
        with self._reading() as session:
            record = session.scalars(query).one_or_none()
            if record is None:
                return None
            return Inventory(source=record.source, taken_at=record.taken_at, documents=tuple(record.documents))
