"""An engine of our own for the tests of the oVirt provider, and connections to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lab.cluster.pki import Authority
from lab.ovirt.engine import USER, ThinEngine
from lab.ovirt.estate import Estate
from mtv.model.connection import Connection

PASSWORD = "canary-pass-2!"


@contextmanager
def engine(folder: Path, estate: Estate) -> Iterator[ThinEngine]:
    """An engine without imageio, that answers until the block ends."""
    running = ThinEngine(Authority.create(folder / "pki"), None, PASSWORD, estate)
    running.start()
    try:
        yield running
    finally:
        running.stop()


def connection(running: ThinEngine, ca_file: Path, **changed: Any) -> Connection:
    """How the engine is reached; `changed` are fields of the connection."""
    fields: dict[str, Any] = {
        "conn_id": "rhv-1",
        "conn_type": "ovirt",
        "host": "127.0.0.1",
        "port": running.port,
        "login": USER,
        "password": PASSWORD,
        "extra": {"ca_file": str(ca_file)},
    }
    return Connection(**{**fields, **changed})
