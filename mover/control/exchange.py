"""One request on a connection of its own, for servers that are asked something now and then."""

from __future__ import annotations

import http.client
from collections.abc import Mapping
from http.client import HTTPMessage
from typing import NamedTuple

from mover.control.endpoint import Endpoint
from mover.control.tls import connect
from mtv.model.errors import TemporaryError

TRANSPORT_ERRORS = (OSError, http.client.HTTPException)
"""What a connection fails with. Never chained into an error of ours: an HTTP error may carry what was sent."""


class Answer(NamedTuple):
    """What the server said."""

    status: int
    headers: HTTPMessage
    body: bytes


def exchange(
    endpoint: Endpoint, method: str, path: str, *, body: bytes | None, headers: Mapping[str, str], longest_bytes: int
) -> Answer:
    """Ask, and read at most `longest_bytes` of the answer. Raises `TRANSPORT_ERRORS`, `ConnectionRefused`."""
    connection = connect(endpoint)
    try:
        connection.request(method, path, body=body, headers=dict(headers))
        # Where the server hangs up after its answer, the answer alone holds the socket.
        with connection.getresponse() as response:
            body = response.read(longest_bytes)
            if len(body) < longest_bytes and response.length:  # http.client says nothing of it to who sets a limit
                raise http.client.IncompleteRead(b"", response.length)
            return Answer(response.status, response.headers, body)
    finally:
        connection.close()


def no_answer(name: str, error: Exception) -> TemporaryError:
    """What one of `TRANSPORT_ERRORS` means; `name` is the server's."""
    return TemporaryError(
        f"{name} does not answer: {type(error).__name__}",
        cure="check host, port and network policy",
        code="source-lost",
    )
