"""One login to a project. The SDK logs in again by itself when a token has ended."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import openstack

from mtv.model.connection import Connection
from mtv.model.errors import PermanentError
from mtv.providers import tls
from mtv.providers.openstack.faults import FAULTS, translate

T = TypeVar("T")
REQUEST_TIMEOUT_S = 120


class Session:
    """A session for the connection's user. Not for use by several threads at once.

    The connection: `host` is Keystone's URL; login and password are a user's, or with `application_credential_id`
    in extra the password is the secret of that. Extra: project, project_domain, user_domain (both `Default`),
    region, interface (`public`), ca_file or ca_pem, insecure.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.where = f"OpenStack {connection.host} (connection {connection.conn_id!r})"
        self.auth_url = _auth_url(connection)
        self._cloud: Any = None
        self._ca: Path | None = None

    @property
    def credential_id(self) -> str:
        """Id of the application credential, "" for a login by password."""
        return str(self.connection.extra.get("application_credential_id") or "")

    def text(self, name: str, otherwise: str = "") -> str:
        """A text of the connection's extra."""
        return str(self.connection.extra.get(name) or otherwise)

    def open(self) -> None:
        """Log in. Raises `ConnectionRefused`, `TemporaryError`, or `PermanentError` for what is no Keystone."""
        if self._cloud is not None:
            return
        try:
            self._cloud = openstack.connect(
                auth=self._auth(),
                auth_type="v3applicationcredential" if self.credential_id else "password",
                region_name=self.text("region") or None,
                interface=self.text("interface", "public"),
                verify=not tls.is_insecure(self.connection),
                cacert=self._ca_path(),
                api_timeout=REQUEST_TIMEOUT_S,
                load_yaml_config=False,
                load_envvars=False,
                app_name="mtv",
            )
            self.run(lambda cloud: cloud.session.get_token(), doing="log in")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Forget the login. The token ends by itself: others of the same user must not end with it."""
        cloud, self._cloud = self._cloud, None
        if cloud is not None:
            cloud.close()
        if self._ca is not None:
            self._ca.unlink(missing_ok=True)
            self._ca = None

    def run(self, operation: Callable[[Any], T], *, doing: str) -> T:
        """Run `operation` on the SDK's connection; faults are raised in our words."""
        self.open()
        try:
            return operation(self._cloud)
        except FAULTS as fault:
            # `from None`: a chained exception would show frames that hold the password.
            raise translate(fault, where=self.where, doing=doing) from None

    def _auth(self) -> dict[str, str]:
        if self.credential_id:
            return {
                "auth_url": self.auth_url,
                "application_credential_id": self.credential_id,
                "application_credential_secret": self.connection.password,
            }
        return {
            "auth_url": self.auth_url,
            "username": self.connection.login,
            "password": self.connection.password,
            "project_name": self.text("project"),
            "user_domain_name": self.text("user_domain", "Default"),
            "project_domain_name": self.text("project_domain", "Default"),
        }

    def _ca_path(self) -> str | None:
        """A file with the authorities: the SDK takes no text."""
        pem = tls.ca_pem(self.connection)
        if pem and tls.is_insecure(self.connection):
            raise PermanentError(
                f"connection {self.connection.conn_id!r} is insecure and names a certificate too",
                cure="remove extra.insecure, or the certificate",
                code="TlsContradiction",
            )
        if not pem:
            return None
        if self._ca is None:
            handle, name = tempfile.mkstemp(prefix="mtv-ca-", suffix=".pem")
            with os.fdopen(handle, "w") as file:
                file.write(pem)
            self._ca = Path(name)
        return str(self._ca)


def _auth_url(connection: Connection) -> str:
    url = connection.host
    if not url:
        raise PermanentError(
            f"connection {connection.conn_id!r} names no host",
            cure="set its host to Keystone's URL",
            code="HostMissing",
        )
    if "://" not in url:  # Airflow's form has the scheme in a field of its own
        url = f"{connection.schema or 'https'}://{url}"
    scheme, _, rest = url.partition("://")
    if scheme not in ("https", "http"):
        raise PermanentError(
            f"connection {connection.conn_id!r}: Keystone's URL begins with {scheme}://",
            cure="use https://",
            code="UrlUnknown",
        )
    if scheme == "http" and not tls.is_insecure(connection):
        raise PermanentError(
            f"connection {connection.conn_id!r}: the password would be sent over plain HTTP",
            cure="use https://, or set extra.insecure if nobody else can listen there",
            code="PlainHttp",
        )
    host, slash, path = rest.partition("/")
    if connection.port and ":" not in host.rpartition("]")[2]:
        host = f"{host}:{connection.port}"
    path = (slash + path).rstrip("/")
    return f"{scheme}://{host}{path}" if path.endswith("/v3") else f"{scheme}://{host}{path}/v3"
