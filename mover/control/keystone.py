"""A Keystone token that lives as long as the copy: got with the secrets in files, got anew when it is refused."""

from __future__ import annotations

import threading
from http import HTTPStatus
from pathlib import Path
from typing import Any

import msgspec

from mover.control.credentials import read_credential
from mover.control.endpoint import Endpoint
from mover.control.exchange import TRANSPORT_ERRORS, exchange, no_answer
from mtv.model.errors import ConnectionRefused, PermanentError, TemporaryError

_CURE = "mount the Secret with user and password, or application-credential-id and application-credential-secret"
_MAX_ANSWER_BYTES = 4 << 20


class KeystoneScope(msgspec.Struct, frozen=True, kw_only=True):
    """Where to log in, and for which project. `path` is that of the auth URL, without `/v3`."""

    endpoint: Endpoint
    path: str
    project: str
    project_domain: str
    user_domain: str


class KeystoneSession:
    """One login, shared by all threads."""

    def __init__(self, scope: KeystoneScope, credentials_dir: Path) -> None:
        self.scope = scope
        self._folder = credentials_dir
        self._lock = threading.Lock()
        self._token = ""

    def token(self) -> str:
        """The token; logs in if need be."""
        with self._lock:
            self._token = self._token or self._log_in()
            return self._token

    def renew(self, stale: str) -> str:
        """A token other than `stale`, which was refused; many threads may ask at once."""
        with self._lock:
            if not self._token or self._token == stale:
                self._token = ""
                self._token = self._log_in()
            return self._token

    def _log_in(self) -> str:
        where = f"{self.scope.endpoint.host}:{self.scope.endpoint.port}"
        body = msgspec.json.encode({"auth": self._auth()})
        try:
            answer = exchange(
                self.scope.endpoint,
                "POST",
                f"{self.scope.path}/v3/auth/tokens",
                body=body,
                headers={"Content-Type": "application/json"},
                longest_bytes=_MAX_ANSWER_BYTES,
            )
        except TRANSPORT_ERRORS as error:
            raise no_answer(f"Keystone at {where}", error) from None
        token = answer.headers.get("X-Subject-Token", "")
        if answer.status == HTTPStatus.CREATED and token:
            return token
        if answer.status == HTTPStatus.UNAUTHORIZED:
            raise ConnectionRefused(
                f"Keystone at {where} refused the login",
                cure="check user, password, domains and project of the connection",
                code="source-login",
            )
        said = f"Keystone at {where}: HTTP {answer.status} to a login"
        if answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR or answer.status == HTTPStatus.TOO_MANY_REQUESTS:
            raise TemporaryError(said, cure="see the server's load", code="source-busy")
        raise PermanentError(said, cure="check the auth URL", code="source-login")

    def _auth(self) -> dict[str, Any]:
        if (self._folder / "application-credential-secret").exists():
            # An application credential is of one project already.
            return {
                "identity": {
                    "methods": ["application_credential"],
                    "application_credential": {
                        "id": self._secret("application-credential-id"),
                        "secret": self._secret("application-credential-secret"),
                    },
                }
            }
        user = {
            "name": self._secret("user"),
            "domain": {"name": self.scope.user_domain},
            "password": self._secret("password"),
        }
        auth: dict[str, Any] = {"identity": {"methods": ["password"], "password": {"user": user}}}
        if self.scope.project:
            auth["scope"] = {
                "project": {"name": self.scope.project, "domain": {"name": self.scope.project_domain}},
            }
        return auth

    def _secret(self, name: str) -> str:
        return read_credential(self._folder, name, cure=_CURE)
