"""One keep-alive connection to an ovirt-imageio server: requests on a transfer whose ticket is renewed when refused."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Mapping

from mover.control.endpoint import Location
from mover.control.imageio_ticket import ImageioTicket
from mover.control.tls import connect
from mtv.model.errors import MtvError, PermanentError, TemporaryError

_MAX_RENEWALS = 4
"""Times a ticket is renewed for one request before the refusal is believed."""
_BUSY = (408, 429)
_KEEP_ALIVE = ((socket.TCP_KEEPIDLE, 20), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 3))
"""A host that is gone is noticed within 50 s even while we wait long for its answer."""


class ImageioConnection:
    """A connection, opened at the first request and again after an error; used by one thread."""

    def __init__(self, ticket: ImageioTicket) -> None:
        self._ticket = ticket
        self._location: Location | None = None
        self._connection: http.client.HTTPConnection | None = None

    @property
    def socket(self) -> socket.socket | None:
        """The connection's socket, to end a long wait from another thread."""
        return self._connection.sock if self._connection else None

    def ask(
        self, method: str, rest: str = "", headers: Mapping[str, str] | None = None, *, timeout_s: float | None = None
    ) -> http.client.HTTPResponse:
        """The answer (any status but a refused ticket's) to a request on the transfer's URL plus `rest`.

        The caller reads the answer to its end and gives errors while reading to `lost`.
        """
        for attempt in range(_MAX_RENEWALS + 1):
            response = self._try_ask(method, rest, headers or {}, timeout_s)
            if response.status != http.HTTPStatus.FORBIDDEN:
                return response
            self.close()
            if attempt < _MAX_RENEWALS and self._location is not None:
                self._location = self._ticket.renew(self._location, again=attempt > 1)
        raise TemporaryError(
            f"{self._ticket.name}: refused with a new ticket too",
            cure="see the host's imageio log",
            code="source-ticket",
        )

    def ask_for_document(self, method: str, rest: str, *, longest_bytes: int) -> tuple[int, bytes]:
        """Status and body of an answer that is not image data."""
        response = self.ask(method, rest)
        try:
            body = response.read(longest_bytes + 1)
            if len(body) > longest_bytes:
                self.close()
                raise PermanentError(
                    f"{self._ticket.name}: the answer to {method} {rest} is longer than {longest_bytes} bytes",
                    code="source-protocol",
                )
            response.read()  # leaves the connection ready for the next request
        except (OSError, http.client.HTTPException) as error:
            raise self.lost(error) from error
        return response.status, body

    def refusal(self, response: http.client.HTTPResponse) -> MtvError:
        """The error that an unwanted status means; the connection is closed."""
        self.close()
        said = f"{self._ticket.name}: HTTP {response.status} {response.reason}"
        if response.status >= http.HTTPStatus.INTERNAL_SERVER_ERROR or response.status in _BUSY:
            return TemporaryError(said, cure="see the host's imageio log", code="source-busy")
        if response.status == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return PermanentError(said, cure="read the inventory again: the disk was resized", code="source-size")
        if response.status == http.HTTPStatus.OK:
            return PermanentError(f"{self._ticket.name}: the server does not serve ranges", code="source-no-ranges")
        return PermanentError(said, code="source-refused")

    def lost(self, error: Exception) -> TemporaryError:
        """The error for a connection that broke; it is closed."""
        self.close()
        return TemporaryError(
            f"{self._ticket.name}: connection lost ({type(error).__name__})",
            cure="the copy resumes when the server is back",
            code="source-lost",
        )

    def close(self) -> None:
        """Give up the connection."""
        if self._connection:
            self._connection.close()
            self._connection = None

    def _try_ask(
        self, method: str, rest: str, headers: Mapping[str, str], timeout_s: float | None
    ) -> http.client.HTTPResponse:
        try:
            # A lost connection is where a transfer that was made anew on another host is noticed.
            if self._connection is None or self._connection.sock is None:  # the server may close after an answer
                self._location = self._ticket.location()
                self._connection = connect(self._location.endpoint)
                for option, value in _KEEP_ALIVE:
                    self._connection.sock.setsockopt(socket.IPPROTO_TCP, option, value)
                self._connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if timeout_s is not None:
                self._connection.sock.settimeout(timeout_s)
            path = self._location.path if self._location else ""
            self._connection.request(method, path + rest, headers=dict(headers))
            return self._connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            raise self.lost(error) from None  # an HTTP error's text may hold the ticket
