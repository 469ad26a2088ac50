"""Connections as Airflow keeps them: database, secrets backend or environment, whichever holds the id."""

from __future__ import annotations

import json
from typing import Any

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException, AirflowRuntimeError

from mtv.model.connection import Connection
from mtv.model.errors import PermanentError

STORE_CONNECTION = "mtv_store"
"""The connection that names the store's database. Without it the store is an SQLite file in the state folder."""


class AirflowConnections:
    """`Connections` of workers and triggerer. Call it from a thread that may block, never from an event loop."""

    def get(self, conn_id: str) -> Connection:
        """Return the connection. Raises `PermanentError` naming `conn_id` when Airflow has none."""
        try:
            found = BaseHook.get_connection(conn_id)
        except AirflowNotFoundException:
            raise PermanentError(
                f"Airflow has no connection {conn_id!r}", cure="make it under Admin → Connections", code="NoConnection"
            ) from None
        except AirflowRuntimeError as error:
            if "NOT_FOUND" not in str(error):
                raise
            raise PermanentError(
                f"Airflow has no connection {conn_id!r}", cure="make it under Admin → Connections", code="NoConnection"
            ) from None
        return from_airflow(found)

    def store_dsn(self) -> str:
        """Return the database address of `mtv_store`, or "" when Airflow has no such connection."""
        try:
            found = BaseHook.get_connection(STORE_CONNECTION)
        except (AirflowNotFoundException, AirflowRuntimeError) as error:
            if isinstance(error, AirflowRuntimeError) and "NOT_FOUND" not in str(error):
                raise
            return ""
        if found.conn_type == "sqlite":
            return f"sqlite:///{found.host or found.schema}"
        return str(found.get_uri()).replace("postgres://", "postgresql://", 1)


def from_airflow(connection: Any) -> Connection:
    """Turn Airflow's connection into ours. Raises `PermanentError` for a `volume` of the form that is no JSON."""
    extra = dict(connection.extra_dejson or {})
    if isinstance(extra.get("volume"), str) and extra["volume"].strip():
        try:
            extra["volume"] = json.loads(extra["volume"])
        except ValueError:
            raise PermanentError(
                f"connection {connection.conn_id!r}: volume is not JSON",
                cure='write a Kubernetes volume source, e.g. {"nfs": {"server": "files", "path": "/srv/ova"}}',
                code="ConnectionMalformed",
            ) from None
    return Connection(
        conn_id=connection.conn_id or "",
        conn_type=connection.conn_type,
        host=connection.host or "",
        port=connection.port,
        login=connection.login or "",
        password=connection.password or "",
        schema=connection.schema or "",
        extra={name: value for name, value in extra.items() if value not in (None, "")},
    )
