"""Calls to an oVirt engine's REST API: a login that is renewed, small XML documents, errors with codes.

OvirtEngine.call ──▶ token (POST sso/oauth/token, again after 401) ──▶ request ──▶ element
"""

from __future__ import annotations

import http.client
import json
import threading
import urllib.parse
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mover.control.credentials import read_credential
from mover.control.endpoint import Endpoint
from mover.control.exchange import TRANSPORT_ERRORS, exchange, no_answer
from mtv.model.errors import ConnectionRefused, MtvError, PermanentError, TemporaryError

_API = "/ovirt-engine/api"
_TOKEN_URL = "/ovirt-engine/sso/oauth/token"  # noqa: S105 - an address
_LOGOUT_URL = "/ovirt-engine/services/sso-logout"
_FORM = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
_LONGEST_ANSWER_BYTES = 4 << 20
_BUSY = (408, 429)


class NotThere(PermanentError):
    """The engine does not know the object (404)."""


class Conflict(TemporaryError):
    """The engine cannot do it now (409): the disk is locked, or the object is in the wrong phase."""


class OvirtEngine:
    """One login, shared by all threads. Credentials are the files `user` (name@profile) and `password` of a folder."""

    def __init__(self, endpoint: Endpoint, credentials_dir: Path) -> None:
        self.endpoint = endpoint
        self._credentials_dir = credentials_dir
        self._lock = threading.Lock()
        self._token = ""

    def call(self, method: str, path: str, body: ET.Element | None = None) -> ET.Element:
        """The answer to one request below `/ovirt-engine/api`. Raises `MtvError`; `NotThere` for 404."""
        token = self._logged_in("")
        status, answer = self._request(method, path, token, body)
        if status == http.HTTPStatus.UNAUTHORIZED:
            status, answer = self._request(method, path, self._logged_in(token), body)
        if status >= http.HTTPStatus.BAD_REQUEST:
            raise self._refusal(status, f"{method} {path}", answer)
        return _parsed(answer)

    def close(self) -> None:
        """Log out; an engine that does not answer any more is left alone."""
        with self._lock:
            token, self._token = self._token, ""
        if not token:
            return
        form = urllib.parse.urlencode({"scope": "ovirt-app-api", "token": token})
        try:
            self._exchange("POST", _LOGOUT_URL, form.encode(), _FORM)
        except MtvError:
            return  # the token ends by itself

    def _logged_in(self, stale: str) -> str:
        """A token that is not `stale`; many threads may ask at once."""
        with self._lock:
            if not self._token or self._token == stale:
                self._token = self._log_in()
            return self._token

    def _log_in(self) -> str:
        user, password = (read_credential(self._credentials_dir, name) for name in ("user", "password"))
        form = {"grant_type": "password", "scope": "ovirt-app-api", "username": user, "password": password}
        status, answer = self._exchange("POST", _TOKEN_URL, urllib.parse.urlencode(form).encode(), _FORM)
        if status >= http.HTTPStatus.INTERNAL_SERVER_ERROR or status in _BUSY:
            raise TemporaryError(f"{self._name}: no login, HTTP {status}", cure="see its load", code="source-busy")
        try:
            document: Any = json.loads(answer)
        except ValueError:
            if status == http.HTTPStatus.OK:  # one that refuses a login says so by its status
                raise TemporaryError(
                    f"{self._name}: the answer to the login is no JSON",
                    cure="see that host and port are the engine's",
                    code="source-protocol",
                ) from None
            document = None
        try:
            token = str(document["access_token"])
        except (KeyError, TypeError):
            # What the engine says is not repeated: it may quote what was sent.
            raise ConnectionRefused(
                f"{self._name} refused the login (HTTP {status})",
                cure="check user (name@profile) and password of the connection",
                code="source-login",
            ) from None
        return token

    def _request(self, method: str, path: str, token: str, body: ET.Element | None) -> tuple[int, bytes]:
        headers = {"Authorization": f"Bearer {token}", "Accept": "application/xml", "Version": "4"}
        if body is None:
            return self._exchange(method, f"{_API}/{path}", None, headers)
        headers["Content-Type"] = "application/xml"
        return self._exchange(method, f"{_API}/{path}", ET.tostring(body), headers)

    def _exchange(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> tuple[int, bytes]:
        try:
            answer = exchange(
                self.endpoint,
                method,
                path,
                body=body,
                headers={**headers, "Connection": "close"},
                longest_bytes=_LONGEST_ANSWER_BYTES,
            )
        except TRANSPORT_ERRORS as error:
            raise no_answer(self._name, error) from None
        return answer.status, answer.body

    def _refusal(self, status: int, what: str, answer: bytes) -> MtvError:
        said = f"{self._name}: {what}: HTTP {status} {_fault(answer)}".rstrip()
        if status == http.HTTPStatus.UNAUTHORIZED:
            return ConnectionRefused(said, cure="check the user's session limits", code="source-login")
        if status == http.HTTPStatus.FORBIDDEN:
            return ConnectionRefused(said, cure="grant the user DiskOperator or UserVmManager", code="source-privilege")
        if status == http.HTTPStatus.NOT_FOUND:
            return NotThere(said, cure="read the inventory again: the disk may be gone", code="source-missing")
        if status == http.HTTPStatus.CONFLICT:
            return Conflict(said, cure="see events and disk locks in the engine", code="source-busy")
        if status >= http.HTTPStatus.INTERNAL_SERVER_ERROR or status in _BUSY:
            return TemporaryError(said, cure="see events and disk locks in the engine", code="source-busy")
        return PermanentError(said, code="source-refused")

    @property
    def _name(self) -> str:
        return f"oVirt engine {self.endpoint.host}:{self.endpoint.port}"


def _parsed(answer: bytes) -> ET.Element:
    if b"<!DOCTYPE" in answer:  # entities are declared there; the engine never sends any
        raise PermanentError("the oVirt engine sent a document with a DOCTYPE", code="source-protocol")
    try:
        return ET.fromstring(answer or b"<empty/>")  # noqa: S314 - no DOCTYPE, and of bounded length
    except ET.ParseError as error:
        raise TemporaryError("the oVirt engine's answer is no XML", code="source-protocol") from error


def _fault(answer: bytes) -> str:
    try:
        fault = _parsed(answer)
    except MtvError:
        return ""
    return " ".join(filter(None, (fault.findtext("reason"), fault.findtext("detail"))))
