"""The engine: how SQLite and PostgreSQL are opened, and the only two ways to a transaction.

SQLite runs in WAL mode with a busy timeout; a writing transaction takes the write lock at its beginning
(`BEGIN IMMEDIATE`), because a lock taken later may fail without waiting. Transactions hold no other work than SQL.
"""

from __future__ import annotations

import os
import sqlite3
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, DatabaseError, DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool, QueuePool

from mtv.model.errors import PermanentError
from mtv.store.errors import StoreAway

BUSY_TIMEOUT_MS = 30_000
"""How long a writer waits for the one SQLite write lock before it gives up."""
CONNECT_TIMEOUT_S = 10
"""How long PostgreSQL may take to answer. A server that is gone from the network would be waited for for minutes."""
_WAL_ATTEMPTS = 100
_WRITE_OPTION = "mtv_writes"
_engines: weakref.WeakSet[Engine] = weakref.WeakSet()


class Database:
    """An open database and its two kinds of transactions; the parts of the store build on it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._writer = engine.execution_options(**{_WRITE_OPTION: True})

    @property
    def dialect(self) -> str:
        """`sqlite` or `postgresql`."""
        return self._engine.dialect.name

    @property
    def place(self) -> str:
        """The file, or the database and its host: for people, without secrets."""
        return _place(self._engine)

    @contextmanager
    def _reading(self) -> Iterator[Session]:
        with Session(self._engine, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def _writing(self) -> Iterator[Session]:
        with Session(self._writer, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Raise `StoreAway` where the database is away for now; faults of a query leave as they are."""
        with answered(self._engine):
            yield

    def close(self) -> None:
        """Close every connection of this process."""
        self._engine.dispose()


def database_url(dsn: str) -> URL:
    """Parse a DSN; plain `postgresql://` and Airflow's `postgres://` use psycopg2. Raises `PermanentError`."""
    try:
        url = make_url(dsn)
    except ArgumentError:
        # The DSN may hold a password, so it is not repeated, not even as the error's cause.
        raise PermanentError(
            "the store's DSN cannot be read",
            cure="write sqlite:////absolute/path/store.sqlite or postgresql://user@host/database",
            code="StoreDsn",
        ) from None
    if url.drivername in {"postgres", "postgresql"}:
        return url.set(drivername="postgresql+psycopg2")
    if url.get_backend_name() not in {"sqlite", "postgresql"}:
        raise PermanentError(
            f"the store cannot live in {url.get_backend_name()}", cure="use SQLite or PostgreSQL", code="StoreDsn"
        )
    return url


def open_engine(dsn: str) -> Engine:
    """Open the database. The folder of an SQLite file is made when it is missing."""
    url = database_url(dsn)
    if url.get_backend_name() == "sqlite":
        if not url.database or url.database == ":memory:":
            raise PermanentError(
                "the store needs a file: several processes share it", cure="name an SQLite file", code="StoreDsn"
            )
        _make_folder(Path(url.database).parent)
        # A file is opened anew for each transaction: cheap, and nothing is left open across a fork.
        engine = create_engine(url, poolclass=NullPool, connect_args={"timeout": BUSY_TIMEOUT_MS / 1000})
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    else:
        if "connect_timeout" not in url.query:
            url = url.update_query_dict({"connect_timeout": str(CONNECT_TIMEOUT_S)})
        engine = create_engine(url, poolclass=QueuePool, pool_size=5, max_overflow=15, pool_pre_ping=True)
    _engines.add(engine)
    return engine


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PermanentError(
            f"the store's folder {folder} cannot be made: {error.strerror}",
            cure="set MTV_STATE_FOLDER to a folder that you may write to, or define the connection mtv_store",
            code="StoreUnreachable",
        ) from error


@contextmanager
def reached(engine: Engine) -> Iterator[None]:
    """Turn a database that does not answer into a refusal in words, without its DSN.

    Raises `StoreAway` as `answered` does, else `PermanentError`.
    """
    try:
        with answered(engine):
            yield
    except DatabaseError as error:
        raise PermanentError(
            _refusal(engine, error), cure="see MTV_STATE_FOLDER and the connection mtv_store", code="StoreUnreachable"
        ) from None


@contextmanager
def answered(engine: Engine) -> Iterator[None]:
    """Turn a database that is away for now into `StoreAway`, in words and without its DSN.

    Away is a server that does not answer, ends the connection or has none left, and a file that is locked. Every other
    error of the database is a fault of the query or of the installation and leaves as it is.
    """
    try:
        yield
    except (DBAPIError, PoolTimeout) as error:
        if not _is_away(engine, error):
            raise
        raise StoreAway(
            _refusal(engine, error),
            cure="see whether its server runs and what the connection mtv_store says",
            code="StoreUnreachable",
        ) from None


def _is_away(engine: Engine, error: DBAPIError | PoolTimeout) -> bool:
    if isinstance(error, PoolTimeout) or error.connection_invalidated:
        return True
    # SQLite calls a missing table and a full disk "operational", too.
    return isinstance(error, OperationalError) and (engine.dialect.name != "sqlite" or "locked" in str(error.orig))


def _refusal(engine: Engine, error: DBAPIError | PoolTimeout) -> str:
    cause = error.orig if isinstance(error, DBAPIError) else error
    why = (str(cause).strip().splitlines() or [type(cause).__name__])[0]
    return f"the store {_place(engine)} cannot be used: {why}"


def _place(engine: Engine) -> str:
    database = str(engine.url.database)
    return database if engine.dialect.name == "sqlite" else f"{database} on {engine.url.host}"


def _prepare_sqlite(connection: sqlite3.Connection, _record: Any) -> None:
    # None: the driver's own implicit BEGIN would come too late and without IMMEDIATE.
    connection.isolation_level = None
    connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA synchronous = FULL")
    for attempt in range(_WAL_ATTEMPTS):
        try:
            if connection.execute("PRAGMA journal_mode").fetchone() == ("wal",):
                return
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            # Several processes may open a new file at once, and SQLite does not wait for this lock by itself.
            if attempt == _WAL_ATTEMPTS - 1:
                raise
            time.sleep(0.05)
        else:
            return


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITE_OPTION, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _forget_inherited_connections() -> None:
    for engine in list(_engines):
        engine.dispose(close=False)


# A forked child must not speak on its parent's sockets, nor close them.
os.register_at_fork(after_in_child=_forget_inherited_connections)
