"""One login at an engine. The SDK logs in again when its token has ended; lost connections are made anew here."""

from __future__ import annotations

import logging
import ssl
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import ovirtsdk4

from mtv.model.connection import Connection
from mtv.model.errors import ConnectionRefused, PermanentError, TemporaryError
from mtv.providers import tls
from mtv.providers.ovirt.faults import BUSY, UNREACHABLE, translate

T = TypeVar("T")
Operation = Callable[[Any], T]
"""What is asked of the SDK's system service."""

REQUEST_TIMEOUT_S = 120  # of one request; reads are paged, so that none takes longer
TRIES = 3
PAUSE_S = 1.0

_PROFILE_MISSING = "write the login as name@profile, such as admin@internal; then see to the password"

_log = logging.getLogger(__name__)


class Session:
    """A session for the connection's user. Not for use by several threads at once."""

    def __init__(self, connection: Connection, *, sleep: Callable[[float], None] = time.sleep) -> None:
        if not connection.host:
            raise PermanentError(
                f"connection {connection.conn_id!r} names no host", cure="set its host to the engine's name"
            )
        for what, given in (("user", connection.login), ("password", connection.password)):
            if not given:  # the SDK would then try another way to log in, of which nobody gets an answer
                raise PermanentError(
                    f"connection {connection.conn_id!r} names no {what}",
                    cure="set its login (name@profile) and its password",
                    code="CredentialsMissing",
                )
        self.connection = connection
        self.host = connection.host
        self.port = connection.port or 443
        self.where = f"oVirt engine {self.host} (connection {connection.conn_id!r})"
        self._sleep = sleep
        self._sdk: Any = None
        self._authority: Path | None = None

    def open(self) -> Any:
        """Log in, if that has not been done, and return the SDK's system service.

        Raises `ConnectionRefused`, `TemporaryError`, or `PermanentError` for a server that is no engine.
        """
        if self._sdk is None:
            self._sdk = self._login()
        return self._sdk.system_service()

    def close(self) -> None:
        """Log out; a session that has ended by itself is no error."""
        self._forget(logout=True)
        if self._authority is not None:
            self._authority.unlink(missing_ok=True)
            self._authority = None

    def read(self, operation: Operation[T], *, doing: str) -> T:
        """Ask something that changes nothing; asked again when the connection is lost or the engine is busy."""
        for attempt in range(1, TRIES + 1):
            try:
                return self.act(operation, doing=doing)
            except TemporaryError as error:
                if attempt == TRIES or error.code not in (UNREACHABLE, BUSY):
                    raise
                _log.info("%s; asking again", error.message)
                self._sleep(PAUSE_S * attempt)
        raise AssertionError("unreachable")  # the last attempt returns or raises

    def act(self, operation: Operation[T], *, doing: str) -> T:
        """Ask once. Refusals are raised in our words; after a lost connection the next request makes a new one."""
        try:
            return operation(self.open())
        except ovirtsdk4.Error as error:
            refusal = translate(error, where=self.where, doing=doing)
            if refusal.code == UNREACHABLE:
                self._forget(logout=False)
            # `from None`: the SDK's frames hold user and password of a login.
            raise refusal from None

    def _login(self) -> Any:
        sdk = None
        try:
            sdk = ovirtsdk4.Connection(
                url=f"https://{self.host}:{self.port}/ovirt-engine/api",
                username=self.connection.login,
                password=self.connection.password,
                insecure=tls.is_insecure(self.connection),
                ca_file=self._ca_file(),
                timeout=REQUEST_TIMEOUT_S,
            )
            sdk.authenticate()
        except ovirtsdk4.Error as error:
            if sdk is not None:
                sdk.close(logout=False)
            raise self._login_refusal(error) from None
        return sdk

    def _login_refusal(self, error: ovirtsdk4.Error) -> Exception:
        if error.code is None and not isinstance(error, ovirtsdk4.AuthError) and "content type" in str(error):
            return PermanentError(
                f"{self.host}:{self.port} (connection {self.connection.conn_id!r}) answers, but is no oVirt engine",
                cure="mend host and port of the connection",
                code="NotOvirt",
            )
        refusal = translate(error, where=self.where, doing="log in")
        if refusal.code == "LoginRefused":
            return ConnectionRefused(
                f"{self.where} refused the user name or password of {self.connection.login!r}",
                cure=refusal.cure if "@" in self.connection.login else _PROFILE_MISSING,
                code=refusal.code,
            )
        return refusal

    def _ca_file(self) -> str | None:
        """Return the file of those whom to trust; it holds no secret, and the SDK takes nothing but a file."""
        pem = tls.trusted_pem(self.connection, self.host, self.port)
        if not pem:
            # libcurl comes with a path of its own that need not exist on this system.
            return ssl.get_default_verify_paths().cafile
        if self._authority is None:
            with tempfile.NamedTemporaryFile(
                "w", prefix="mtv-ovirt-", suffix=".pem", delete=False, encoding="ascii"
            ) as file:
                file.write(pem)
            self._authority = Path(file.name)
        return str(self._authority)

    def _forget(self, *, logout: bool) -> None:
        sdk, self._sdk = self._sdk, None
        if sdk is None:
            return
        try:
            sdk.close(logout=logout)
        except ovirtsdk4.Error as error:
            # The work is done and the token ends by itself: not worth failing what went well.
            _log.info("%s: no logout: %s", self.where, type(error).__name__)
