"""Connections from a file, for the command line and for tests: no Airflow needed.

The format is that of `airflow connections export --file-format json`: one JSON object, connection id → fields.
The file holds passwords, so it must belong to its reader alone (mode 0600), or stand on a read-only
mount: the mode of a secret that is mounted into a container is not ours to change.
"""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

from mtv.model.connection import Connection
from mtv.model.errors import PermanentError
from mtv.model.near_names import nearest

_MAX_BYTES = 4 << 20
_FIELDS = {"conn_type", "description", "host", "login", "password", "schema", "port", "extra"}


class FileConnections:
    """Connections of one file, read again on each `get`, so that an edit is seen at once."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def get(self, conn_id: str) -> Connection:
        """Return the connection. Raises `PermanentError` when there is none or the file cannot be trusted."""
        entries = self._read()
        if conn_id not in entries:
            near = nearest(conn_id, entries)
            known = ", ".join(sorted(entries)) or "none"
            cure = f"did you mean {near!r}? It holds: {known}" if near else f"it holds: {known}"
            raise PermanentError(f"no connection {conn_id!r} in {self.path}", cure=cure, code="ConnectionUnknown")
        return _connection(conn_id, entries[conn_id], self.path)

    def ids(self) -> list[str]:
        """Return the ids of all connections in the file, sorted."""
        return sorted(self._read())

    def _read(self) -> dict[str, Any]:
        try:
            info = self.path.stat()
        except OSError as error:
            raise PermanentError(
                f"the connections file {self.path} cannot be read: {error.strerror}",
                cure="set MTV_CONNECTIONS_FILE to a file as `airflow connections export` writes it",
                code="ConnectionsFileMissing",
            ) from error
        is_open = info.st_mode & (stat.S_IRWXG | stat.S_IRWXO)
        if is_open and not os.statvfs(self.path).f_flag & os.ST_RDONLY:
            raise PermanentError(
                f"the connections file {self.path} holds passwords and others may open it"
                f" (mode {stat.S_IMODE(info.st_mode):04o})",
                cure=f"chmod 600 {self.path}",
                code="ConnectionsFileOpen",
            )
        if info.st_size > _MAX_BYTES:
            raise PermanentError(f"the connections file {self.path} is larger than {_MAX_BYTES} bytes")
        try:
            entries = json.loads(self.path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            # The parser's message quotes no content beyond a position, so no password can leak here.
            where = f"line {error.lineno}" if isinstance(error, json.JSONDecodeError) else "the text"
            raise PermanentError(f"the connections file {self.path} is not JSON: see {where}") from None
        if not isinstance(entries, dict):
            raise PermanentError(f"the connections file {self.path} must hold one object: connection id → fields")
        return entries


def _connection(conn_id: str, entry: Any, path: Path) -> Connection:
    where = f"connection {conn_id!r} in {path}"
    if not isinstance(entry, dict):
        raise PermanentError(f"{where} must be an object of fields", code="ConnectionMalformed")
    unknown = sorted(set(entry) - _FIELDS)
    if unknown:
        raise PermanentError(
            f"{where} has unknown fields {', '.join(unknown)}",
            cure=f"known fields: {', '.join(sorted(_FIELDS))}",
            code="ConnectionMalformed",
        )
    extra = entry.get("extra") or {}
    if isinstance(extra, str):
        try:
            extra = json.loads(extra)
        except ValueError:
            raise PermanentError(f"{where}: extra is not JSON", code="ConnectionMalformed") from None
    if not isinstance(extra, dict):
        raise PermanentError(f"{where}: extra must be an object", code="ConnectionMalformed")
    texts = {name: entry.get(name) or "" for name in ("conn_type", "host", "login", "password", "schema")}
    wrong = [name for name, value in texts.items() if not isinstance(value, str)]
    port = entry.get("port") or None
    if wrong or not (port is None or (isinstance(port, int) and 0 < port < 65536)):
        names = ", ".join([*wrong, *(["port"] if not wrong else [])])
        raise PermanentError(f"{where}: {names} has the wrong type", code="ConnectionMalformed")
    if not texts["conn_type"]:
        raise PermanentError(f"{where} has no conn_type", code="ConnectionMalformed")
    return Connection(conn_id=conn_id, port=port, extra=extra, **texts)
