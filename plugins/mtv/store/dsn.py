"""Where the store lives: the connection `mtv_store`, else a file below the state folder."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy.engine import URL

from mtv.model.connection import Connection
from mtv.model.errors import PermanentError

STORE_CONNECTION = "mtv_store"
"""The connection that names the store's database."""


def default_dsn(state_folder: Path) -> str:
    """Return the DSN that is used when no connection `mtv_store` exists."""
    return f"sqlite:///{state_folder.resolve() / 'store.sqlite'}"


def dsn_of(connection: Connection) -> str:
    """Return the DSN of a connection of type postgres or sqlite. It may hold a password: never log it."""
    if connection.conn_type == "sqlite":
        return f"sqlite:///{connection.host or connection.schema}"
    if connection.conn_type not in {"postgres", "postgresql"}:
        raise PermanentError(
            f"connection {connection.conn_id} has the type {connection.conn_type}, which holds no store",
            cure="give it the type postgres or sqlite",
            code="StoreDsn",
        )
    url = URL.create(
        "postgresql+psycopg2",
        username=connection.login or None,
        password=connection.password or None,
        host=connection.host or None,
        port=connection.port,
        database=connection.schema or None,
        query={key: str(value) for key, value in connection.extra.items() if key.startswith("ssl")},
    )
    return url.render_as_string(hide_password=False)
