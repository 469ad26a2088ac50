"""The Go program that answers as vCenter. Needs only the standard library: see `lab.binaries`."""

from __future__ import annotations

from pathlib import Path

from lab.gotool import go_binary

_SERVER = Path(__file__).parent / "server"


def binary() -> Path:
    """The program, built at the first call."""
    return go_binary(_SERVER, name="vcenter-lab")
