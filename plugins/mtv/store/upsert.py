"""`INSERT … ON CONFLICT`, which SQLite and PostgreSQL spell alike but SQLAlchemy keeps in two dialects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from mtv.store.tables import Base


def _insert(session: Session, table: type[Base]) -> sqlite.Insert | postgresql.Insert:
    if session.get_bind().dialect.name == "postgresql":
        return postgresql.insert(table)
    return sqlite.insert(table)


def insert_once(session: Session, table: type[Base], values: Mapping[str, Any]) -> None:
    """Insert a row unless one with its key exists."""
    session.execute(_insert(session, table).values(**values).on_conflict_do_nothing())


def insert_or_replace(session: Session, table: type[Base], key: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    """Insert a row, or give the row with its key new values."""
    statement = _insert(session, table).values(**key, **values)
    session.execute(statement.on_conflict_do_update(index_elements=list(key), set_=dict(values)))


def insert_or_replace_all(
    session: Session, table: type[Base], key: Sequence[str], rows: Sequence[Mapping[str, Any]]
) -> None:
    """The same for many rows at once; `key` names the key's columns, which every row holds."""
    if rows:
        statement = _insert(session, table)
        new = {name: statement.excluded[name] for name in rows[0] if name not in key}
        session.execute(
            statement.on_conflict_do_update(index_elements=list(key), set_=new), [dict(row) for row in rows]
        )
