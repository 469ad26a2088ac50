"""One logged-in session with a vCenter or an ESXi host; it logs in again once when the session has expired."""

from __future__ import annotations

# mypy: allow-untyped-calls
# (pyVmomi ships types for its data, but none for constructors and connect functions)
import logging
import ssl
from collections.abc import Callable
from http.client import HTTPException
from typing import Any, NamedTuple, TypeVar
from xml.parsers.expat import ExpatError

from pyVim.connect import SmartStubAdapter
from pyVmomi import vim, vmodl

from mtv.model.connection import Connection
from mtv.model.errors import ConnectionRefused, MtvError, PermanentError, TemporaryError
from mtv.providers.tls import verified_context
from mtv.providers.vmware.faults import translate

T = TypeVar("T")

_log = logging.getLogger(__name__)

CALL_LOST = (OSError, HTTPException, ExpatError)
"""What a call fails with when its connection does: an answer that ends too early is met by its parser first."""
REQUEST_TIMEOUT_S = 120  # of one call; reads are paged, so that none takes longer


class Api(NamedTuple):
    """What an operation speaks to. References kept from an earlier login stay valid; views and filters do not.

    `content` is vSphere's ServiceContent, whose managers its types call optional one and all.
    """

    instance: vim.ServiceInstance
    content: Any


class Session:
    """A session for the connection's user. Not for use by several threads at once."""

    def __init__(self, connection: Connection) -> None:
        if not connection.host:
            raise PermanentError(
                f"connection {connection.conn_id!r} names no host", cure="set its host to vCenter's name"
            )
        self.connection = connection
        self.host = connection.host
        self.port = connection.port or 443
        self.where = f"vCenter {self.host} (connection {connection.conn_id!r})"
        self.context: ssl.SSLContext | None = None
        """How the last login trusted the other end; None before the first."""
        self._api: Api | None = None

    def open(self) -> Api:
        """Log in, if that has not been done. Raises `ConnectionRefused` or `TemporaryError`."""
        if self._api is None:
            self.context = verified_context(self.connection, self.host, self.port)
            self._api = self._login(self.context)
        return self._api

    def close(self) -> None:
        """Log out; a session that has ended by itself is no error."""
        api, self._api = self._api, None
        if api is None:
            return
        try:
            api.content.sessionManager.Logout()
        except (vmodl.MethodFault, *CALL_LOST) as fault:
            # The work is done and the session ends by itself: not worth failing what went well.
            _log.info("%s: no logout: %s", self.where, type(fault).__name__)
        finally:
            api.instance._stub.DropConnections()

    def run(self, operation: Callable[[Api], T], *, doing: str, tries: int = 1) -> T:
        """Run `operation`; if the session has expired, log in again and run it once more.

        An operation must therefore make its own views, and be harmless to begin again: vCenter refuses a call
        without a session before it does anything. With more `tries` it is also begun again when its connection
        breaks, or its new session ends as well, which suits what only reads. Faults are raised in our words.
        """
        for left in range(tries - 1, -1, -1):
            try:
                return self._run_in_session(operation)
            except MtvError:
                raise
            except (vim.fault.NotAuthenticated, *CALL_LOST) as fault:
                if not left:
                    raise translate(fault, where=self.where, doing=doing) from fault
                self._forget()
                _log.warning("%s: %s while it was to %s; trying again", self.where, type(fault).__name__, doing)
            except vmodl.MethodFault as fault:
                raise translate(fault, where=self.where, doing=doing) from fault
        raise AssertionError("the last try returns or raises")

    def _run_in_session(self, operation: Callable[[Api], T]) -> T:
        try:
            return operation(self.open())
        except vim.fault.NotAuthenticated:
            self._forget()
            return operation(self.open())

    def _forget(self) -> None:
        if self._api is not None:
            self._api.instance._stub.DropConnections()
            self._api = None

    def _login(self, context: ssl.SSLContext) -> Api:
        user = self.connection.login
        stub = None
        # `from None` everywhere below: a chained exception would show the frames that hold the password.
        try:
            stub = SmartStubAdapter(
                host=self.host, port=self.port, sslContext=context, httpConnectionTimeout=REQUEST_TIMEOUT_S
            )
            instance = vim.ServiceInstance("ServiceInstance", stub)
            content: Any = instance.RetrieveContent()
            content.sessionManager.Login(user, self.connection.password, None)
            stub = None  # it belongs to the session now
            return Api(instance, content)
        except vim.fault.InvalidLogin:
            raise ConnectionRefused(
                f"{self.where} refused the user name or password of {user!r}",
                cure="mend login and password of the connection",
                code="LoginRefused",
            ) from None
        except vmodl.MethodFault as fault:
            raise translate(fault, where=self.where, doing="log in") from None
        except CALL_LOST as error:
            raise TemporaryError(f"{self.where} does not answer: {type(error).__name__}", code="Unreachable") from None
        except Exception as error:  # pyVim raises a bare Exception when no VIM server answers
            if type(error) is not Exception:
                raise
            raise PermanentError(
                f"{self.host}:{self.port} (connection {self.connection.conn_id!r}) answers, but is no vSphere server",
                cure="mend host and port of the connection",
                code="NotVsphere",
            ) from None
        finally:
            if stub is not None:
                stub.DropConnections()
