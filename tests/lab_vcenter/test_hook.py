"""The power hook keeps to its folder and says why a power operation failed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lab.state import PYTHON_PATH, State
from lab.vcenter.hook import guest_files, running_guests
from mtv.model.errors import PermanentError


def hook(state: Path, operation: str, vm: dict[str, object]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lab.vcenter.hook", "--state", str(state), operation],
        input=json.dumps(vm),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "PYTHONPATH": PYTHON_PATH},
    )


@pytest.mark.parametrize("name", ["../evil", "a/b", "", ".hidden", "a b", "a\n"])
def test_a_name_that_leads_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(PermanentError, match="name"):
        guest_files(State(tmp_path), name)


def test_a_missing_disk_fails_the_power_on_and_nothing_stays(tmp_path: Path) -> None:
    vm = {"Name": "ghost", "MemoryMB": 64, "CPUs": 1, "Disks": [str(tmp_path / "none.raw")], "MACs": []}
    done = hook(tmp_path, "on", vm)
    assert done.returncode == 1
    assert "none.raw" in done.stderr
    assert hook(tmp_path, "gone", vm).returncode == 0
    assert running_guests(State(tmp_path)) == []


def test_a_guest_that_is_off_cannot_be_shut_down(tmp_path: Path) -> None:
    done = hook(tmp_path, "shutdown", {"Name": "ghost"})
    assert done.returncode == 1
    assert "control socket" in done.stderr
