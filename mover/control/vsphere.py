"""A vCenter session that lives as long as the copy: logged in from files, kept alive, renewed when it is lost."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any
from xml.parsers.expat import ExpatError

from pyVim.connect import SmartStubAdapter
from pyVmomi import vim, vmodl

from mover.control.credentials import read_credential
from mover.control.endpoint import Endpoint
from mover.control.exchange import TRANSPORT_ERRORS
from mover.control.keeper import Keeper
from mover.control.tls import TIMEOUT_S, connect, ssl_context
from mtv.model.errors import ConnectionRefused, MtvError, TemporaryError

# pyVmomi's types do not describe what these take.
_new_stub: Any = SmartStubAdapter
_new_instance: Any = vim.ServiceInstance
CALL_LOST = (*TRANSPORT_ERRORS, ExpatError)
"""What a call fails with when its connection does. pyVmomi parses an answer while it arrives, and an early end of the
connection is no error to who reads by pieces: the parser meets it first.
"""
KEEP_ALIVE_S = 60.0
"""Idle sessions end after 30 minutes by default; some sites set much less."""


class VsphereSession:
    """One login, shared by all threads. Credentials are the files `user` and `password` of a folder."""

    def __init__(self, endpoint: Endpoint, credentials_dir: Path, *, keep_alive_s: float = KEEP_ALIVE_S) -> None:
        self.endpoint = endpoint
        self._credentials_dir = credentials_dir
        self._lock = threading.RLock()
        self._instance: Any = None
        self._dropped: list[Any] = []
        """Stubs of sessions that are over: a call that was under way gives its connection back to them afterwards."""
        self._stop = threading.Event()
        self._keeper = Keeper("vsphere-keep-alive", self._keep_alive, every_s=keep_alive_s, stop=self._stop)

    def cookie(self) -> str:
        """The session's cookie, `name=value`; logs in if need be."""
        with self._lock:
            return _cookie_of(self._logged_in())

    def renew(self, stale_cookie: str) -> str:
        """A session that is not the one of `stale_cookie`, which was refused; many threads may ask at once."""
        with self._lock:
            if self._instance is not None and _cookie_of(self._instance) == stale_cookie:
                _drop(self._instance._stub)
                self._dropped.append(self._instance._stub)
                self._instance = None
            return _cookie_of(self._logged_in())

    def managed(self, kind: type, moid: str) -> Any:
        """The managed object with this id, bound to the session."""
        with self._lock:
            return kind(moid, self._logged_in()._stub)

    def collect(self, kind: type, moid: str, path: str) -> Any:
        """One property, by PropertyCollector; None if it is unset."""
        with self._lock:
            content = self._logged_in().RetrieveContent()
        collector: Any = vmodl.query.PropertyCollector
        spec = collector.FilterSpec(
            objectSet=[collector.ObjectSpec(obj=self.managed(kind, moid))],
            propSet=[collector.PropertySpec(type=kind, pathSet=[path])],
        )
        found = content.propertyCollector.RetrievePropertiesEx([spec], collector.RetrieveOptions())
        return next((prop.val for item in found.objects for prop in item.propSet), None) if found else None

    def close(self) -> None:
        """Log out; a vCenter that does not answer any more is left alone."""
        self._stop.set()
        with self._lock:
            instance, self._instance = self._instance, None
            dropped, self._dropped = self._dropped, []
        for stub in dropped:
            _drop(stub)
        if instance is None:
            return
        try:
            instance.content.sessionManager.Logout()
        except (vmodl.MethodFault, *CALL_LOST):
            return  # the session ends by itself
        finally:
            _drop(instance._stub)

    def _logged_in(self) -> Any:
        if self._instance is None:
            self._instance = self._log_in()
            self._keeper.ensure_running()
        return self._instance

    def _log_in(self) -> Any:
        endpoint = self.endpoint
        user, password = (read_credential(self._credentials_dir, name) for name in ("user", "password"))
        stub: Any = None
        try:
            connect(endpoint).close()  # proves whom we talk to before anything secret is sent
            stub = _new_stub(
                host=endpoint.host,
                port=endpoint.port,
                sslContext=ssl_context(endpoint),
                httpConnectionTimeout=TIMEOUT_S,
            )
            instance = _new_instance("ServiceInstance", stub)
            instance.RetrieveContent().sessionManager.Login(user, password, None)
        except vim.fault.InvalidLogin:
            _drop(stub)
            raise ConnectionRefused(
                f"{endpoint.host} refused the login",
                cure="check user and password of the connection",
                code="source-login",
            ) from None
        except vim.fault.NoPermission as error:
            _drop(stub)
            raise ConnectionRefused(
                f"{endpoint.host}: the user lacks {error.privilegeId}", cure="grant it", code="source-privilege"
            ) from None
        except (vmodl.MethodFault, *CALL_LOST) as error:
            _drop(stub)
            # The cause is not chained: a fault may carry what was sent.
            raise TemporaryError(
                f"{endpoint.host}:{endpoint.port} does not answer: {type(error).__name__}",
                cure="check host, port and network policy",
                code="source-lost",
            ) from None
        return instance

    def _keep_alive(self) -> None:
        with self._lock:
            instance = self._instance
        if instance is None:
            return
        try:
            instance.CurrentTime()
        except vim.fault.NotAuthenticated:
            self._try_renew(_cookie_of(instance))
        except (vmodl.MethodFault, *CALL_LOST):
            return  # whoever reads next meets the same and reports it

    def _try_renew(self, stale_cookie: str) -> None:
        try:
            self.renew(stale_cookie)
        except MtvError:
            return  # the reader asks for the session itself and reports what it gets


def _cookie_of(instance: Any) -> str:
    return str(instance._stub.cookie).split(";", 1)[0].strip()


def _drop(stub: Any) -> None:
    if stub is not None:
        stub.DropConnections()
