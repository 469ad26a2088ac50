"""The Go program with KubeVirt's own control plane. Needs only the standard library: see `lab.binaries`."""

from __future__ import annotations

from pathlib import Path

from lab.gotool import go_binary

_MODULE = Path(__file__).with_name("control")


def binary() -> Path:
    """The program, built at the first call (two minutes)."""
    return go_binary(_MODULE, name="kubevirt")
