"""A server and how to know it; kept apart from TLS itself, whose import takes a while that most copies do not need."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import msgspec


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A server and how to know it. `ca_file` may be absent: then the system's authorities count."""

    host: str
    port: int
    thumbprint: str = ""
    insecure: bool = False
    ca_file: Path | None = None
    tls: bool = True
    """False: plain HTTP, which proves nothing about the server and hides nothing."""


class Location(NamedTuple):
    """A server and the path (with its query, if it has one) of a file there. The path may hold a secret."""

    endpoint: Endpoint
    path: str
