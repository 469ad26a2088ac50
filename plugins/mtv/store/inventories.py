"""What the sources looked like, at every moment that somebody looked.

Each object of a source (a VM, a host, a datastore …) has a row per version: from the moment that first saw it so to the
moment that saw it otherwise. A moment at which nothing had changed costs one row of its own and no other.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from sqlalchemy import ColumnElement, delete, func, insert, or_, select, text, update
from sqlalchemy.orm import Session

from mtv.store.database import Database
from mtv.store.rows import InventoryChange, InventoryMoment, InventoryObject
from mtv.store.tables import InventoryMomentRecord, InventoryVersionRecord

_Moment, _Version = InventoryMomentRecord, InventoryVersionRecord
_Key = tuple[str, str]


class Inventories(Database):
    """The part of the store about inventories."""

    def put_inventory(
        self,
        source: str,
        objects: Iterable[InventoryObject],
        *,
        now: datetime | None = None,
        keep: timedelta | None = None,
    ) -> InventoryMoment:
        """Record everything that a source (a connection id) holds now; what is not among `objects` is gone from it.

        Only what differs from the moment before is written. With `keep`, moments older than that are forgotten,
        but for the newest of them: every instant within `keep` can still be read. Raises `ValueError` for two objects
        of one kind and key.
        """
        seen = list(objects)
        found = {(one.kind, one.key): (one, *_packed(one)) for one in seen}
        if len(found) < len(seen):
            raise ValueError(f"the inventory of {source} has two objects of one key")
        now = now or datetime.now(UTC)
        with self._writing() as session:
            _one_writer(session, source)
            moment = _Moment(source=source, taken_at=now, objects=len(found))
            session.add(moment)
            session.flush()
            current = {
                (kind, key): (row_id, digest)
                for row_id, kind, key, digest in session.execute(
                    select(_Version.id, _Version.kind, _Version.key, _Version.digest).where(
                        _Version.source == source, _Version.until_moment.is_(None)
                    )
                )
            }
            ended = [row_id for key, (row_id, digest) in current.items() if key not in found or found[key][2] != digest]
            begun = [
                {
                    "source": source,
                    "kind": kind,
                    "key": key,
                    "since_moment": moment.id,
                    "until_moment": None,
                    "name": one.name,
                    "digest": digest,
                    "document": packed,
                }
                for (kind, key), (one, packed, digest) in found.items()
                if (kind, key) not in current or current[kind, key][1] != digest
            ]
            if ended:
                session.execute(update(_Version), [{"id": row_id, "until_moment": moment.id} for row_id in ended])
            if begun:
                session.execute(insert(_Version), begun)
            if keep is not None:
                _forget(session, source, now - keep)
            return _moment(moment)

    def inventory_moments(self, source: str, *, limit: int = 100) -> list[InventoryMoment]:
        """Return when the source was looked at, the newest moment first."""
        query = select(_Moment).where(_Moment.source == source).order_by(_Moment.id.desc()).limit(limit)
        with self._reading() as session:
            return [_moment(record) for record in session.scalars(query)]

    def inventory_moment(self, source: str, at: datetime | None = None) -> InventoryMoment | None:
        """Return the newest moment (at or before the instant `at`); None when there is none."""
        query = select(_Moment).where(_Moment.source == source).order_by(_Moment.id.desc()).limit(1)
        if at is not None:
            query = query.where(_Moment.taken_at <= at)
        with self._reading() as session:
            record = session.scalars(query).one_or_none()
            return None if record is None else _moment(record)

    def inventory(self, moment: InventoryMoment, *, kind: str = "", name: str = "") -> list[InventoryObject]:
        """Return what a source held at a moment, by kind and key: all of it, or objects of one kind or name."""
        query = select(_Version).where(_held(moment)).order_by(_Version.kind, _Version.key)
        if kind:
            query = query.where(_Version.kind == kind)
        if name:
            query = query.where(_Version.name == name)
        with self._reading() as session:
            return [_object(record) for record in session.scalars(query)]

    def inventory_names(self, moment: InventoryMoment, *, kind: str) -> list[str]:
        """Return the names of the objects of a kind that a source held at a moment; documents are not read."""
        query = select(_Version.name).where(_held(moment), _Version.kind == kind).order_by(_Version.key)
        with self._reading() as session:
            return list(session.scalars(query))

    def inventory_changes(self, before: InventoryMoment, now: InventoryMoment) -> list[InventoryChange]:
        """Return what differs between two moments of a source, by kind and key; what came and went is left out."""
        touched = or_(
            _Version.since_moment.between(before.id + 1, now.id), _Version.until_moment.between(before.id + 1, now.id)
        )
        query = select(_Version).where(_Version.source == before.source, touched)
        old: dict[_Key, InventoryObject] = {}
        new: dict[_Key, InventoryObject] = {}
        with self._reading() as session:
            for record in session.scalars(query):
                for moment, side in ((before, old), (now, new)):
                    until = record.until_moment
                    if record.since_moment <= moment.id and (until is None or until > moment.id):
                        side[record.kind, record.key] = _object(record)
        return [
            InventoryChange(kind=kind, key=key, before=old.get((kind, key)), now=new.get((kind, key)))
            for kind, key in sorted({*old, *new})
            if (a := old.get((kind, key))) is None or (b := new.get((kind, key))) is None or a.digest != b.digest
        ]


def digest_of(document: object) -> str:
    """Return the SHA-256 of a JSON value; equal for equal values."""
    return hashlib.sha256(_text(document).encode()).hexdigest()


def _packed(one: InventoryObject) -> tuple[str, str]:
    """Return an object's document as text, and the digest that tells its versions apart: of its name and document."""
    packed = _text(one.document)
    return packed, digest_of([one.name, packed])


def _text(value: object) -> str:
    # ASCII, so that a database meets neither NUL nor a lone surrogate, whatever a source puts into a text.
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _held(moment: InventoryMoment) -> ColumnElement[bool]:
    return (
        (_Version.source == moment.source)
        & (_Version.since_moment <= moment.id)
        & or_(_Version.until_moment.is_(None), _Version.until_moment > moment.id)
    )


def _one_writer(session: Session, source: str) -> None:
    """Keep two snapshots of one source from overlapping; a writing transaction of SQLite is alone anyway."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(
            text("SELECT pg_advisory_xact_lock(hashtext('mtv inventory'), hashtext(:source))"), {"source": source}
        )


def _forget(session: Session, source: str, cutoff: datetime) -> None:
    oldest = session.scalar(select(func.max(_Moment.id)).where(_Moment.source == source, _Moment.taken_at <= cutoff))
    if oldest is not None:
        session.execute(delete(_Version).where(_Version.source == source, _Version.until_moment <= oldest))
        session.execute(delete(_Moment).where(_Moment.source == source, _Moment.id < oldest))


def _moment(record: InventoryMomentRecord) -> InventoryMoment:
    return InventoryMoment(id=record.id, source=record.source, taken_at=record.taken_at, objects=record.objects)


def _object(record: InventoryVersionRecord) -> InventoryObject:
    return InventoryObject(
        kind=record.kind,
        key=record.key,
        name=record.name,
        document=json.loads(record.document),
        digest=record.digest,
    )
