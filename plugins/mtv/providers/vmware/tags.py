"""Tags of VMs, which vCenter tells by its REST API only. What cannot be had is no reason to fail an inventory."""

from __future__ import annotations

import base64
import json
import logging
import urllib.parse
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from http import HTTPStatus
from http.client import HTTPException, HTTPSConnection
from typing import Any

from mtv.model.connection import Connection
from mtv.providers.vmware.session import Session

_log = logging.getLogger(__name__)

_SESSION = "/rest/com/vmware/cis/session"
_TAGGING = "/rest/com/vmware/cis/tagging"
_TIMEOUT_S = 60
_BATCH = 1000
_MOST_BYTES = 64 << 20


Tags = dict[str, list[dict[str, str]]]


class _Refused(Exception):
    """The API answered with an error status."""


def tags_of(session: Session, vm_ids: Sequence[str]) -> Tags | None:
    """Return the tags of each VM that has some: id, name, description and categoryID, sorted by name.

    It costs a login of its own. None when nobody tells them: a single ESXi host has none, the user may lack the right
    to see tags, or the service is down.
    """
    if not vm_ids:
        return {}
    if session.open().content.about.apiType != "VirtualCenter" or session.context is None:
        return None
    try:
        with closing(
            HTTPSConnection(session.host, session.port, timeout=_TIMEOUT_S, context=session.context)
        ) as opened:
            client = _Rest(opened)
            with client.session(session.connection):
                return _attached(client, vm_ids)
    except (_Refused, OSError, HTTPException, ValueError, LookupError, TypeError, AttributeError) as error:
        # Whatever it answered: never its words, which may repeat what was asked.
        why = str(error) if isinstance(error, _Refused) else type(error).__name__
        _log.warning("connection %s: tags of VMs cannot be read: %s", session.connection.conn_id, why)
        return None


def _attached(client: _Rest, vm_ids: Sequence[str]) -> Tags:
    known: dict[str, dict[str, str]] = {}
    found: Tags = {}
    for start in range(0, len(vm_ids), _BATCH):
        objects = [{"id": vm_id, "type": "VirtualMachine"} for vm_id in vm_ids[start : start + _BATCH]]
        action = "tag-association?~action=list-attached-tags-on-objects"
        for row in client.ask("POST", f"{_TAGGING}/{action}", {"object_ids": objects}) or ():
            ids = row.get("tag_ids") or []
            for tag_id in ids:
                if tag_id not in known:
                    known[tag_id] = _tag(client, tag_id)
            if ids:
                found[row["object_id"]["id"]] = sorted((known[one] for one in ids), key=lambda tag: tag["name"])
    return found


def _tag(client: _Rest, tag_id: str) -> dict[str, str]:
    told = client.ask("GET", f"{_TAGGING}/tag/id:{urllib.parse.quote(tag_id, safe=':')}")
    return {
        "id": tag_id,
        "name": str(told.get("name", "")),
        "description": str(told.get("description", "")),
        "categoryID": str(told.get("category_id", "")),
    }


class _Rest:
    """vCenter's REST API on one connection."""

    def __init__(self, opened: HTTPSConnection) -> None:
        self._opened = opened
        self._headers = {"Content-Type": "application/json", "Accept": "application/json"}

    @contextmanager
    def session(self, connection: Connection) -> Iterator[None]:
        """Log in for the time of the block."""
        login = base64.b64encode(f"{connection.login}:{connection.password}".encode()).decode()
        self._headers["vmware-api-session-id"] = str(self.ask("POST", _SESSION, Authorization=f"Basic {login}"))
        try:
            yield
        finally:
            try:
                self.ask("DELETE", _SESSION)
            except (_Refused, OSError, HTTPException) as error:  # it ends by itself
                _log.info("no logout from the REST API: %s", type(error).__name__)

    def ask(self, method: str, path: str, body: object = None, **headers: str) -> Any:
        """Return the value of an answer. Raises `_Refused`, `OSError`, `HTTPException` or `ValueError`."""
        content = None if body is None else json.dumps(body)
        self._opened.request(method, path, content, {**self._headers, **headers})
        with self._opened.getresponse() as answer:
            told = answer.read(_MOST_BYTES)
        if answer.status >= HTTPStatus.BAD_REQUEST:
            raise _Refused(f"HTTP status {answer.status}")
        return json.loads(told).get("value") if told else None
