"""A server and how to know it; kept apart from TLS itself, whose import takes a while that most copies do not need."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import msgspec


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A server and how to know it. `ca_file` may be absent: then the system's authorities count.

    `told_by` is the host that told the thumbprint, "" where the connection did.
    """

    host: str
    port: int
    thumbprint: str = ""
    told_by: str = ""
    insecure: bool = False
    ca_file: Path | None = None
    tls: bool = True
    """False: plain HTTP, which proves nothing about the server and hides nothing."""

    def is_same_server(self, other: Endpoint) -> bool:
        """Whether what is meant for one may be sent to the other, however each is known."""
        return (self.host.lower(), self.port, self.tls) == (other.host.lower(), other.port, other.tls)


class Location(NamedTuple):
    """A server and the path (with its query, if it has one) of a file there. The path may hold a secret."""

    endpoint: Endpoint
    path: str
