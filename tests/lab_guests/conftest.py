"""Converts guests as the product's conversion does, to prove that the guests can be converted at all."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from lab.appliance import appliance

Convert = Callable[[Path], "subprocess.CompletedProcess[str]"]


@pytest.fixture
def convert(tmp_path: Path) -> Convert:
    """Runs virt-v2v-in-place on a raw disk, its appliance under emulation."""

    def run(disk: Path) -> subprocess.CompletedProcess[str]:
        scratch = tmp_path / "scratch"
        scratch.mkdir()
        environment = {
            **os.environ,
            "LIBGUESTFS_BACKEND": "direct",
            "LIBGUESTFS_BACKEND_SETTINGS": "force_tcg",
            "LIBGUESTFS_PATH": str(appliance()),
            "TMPDIR": str(scratch),
        }
        argv = ["nice", "virt-v2v-in-place", "-i", "disk", str(disk)]
        return subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=400, check=False)

    return run
