"""The server's own Go tests, run here so that one command runs all tests."""

from __future__ import annotations

import subprocess
from pathlib import Path

import lab.vcenter
from lab.gotool import go_environment, go_tool


def test_the_servers_go_tests_pass() -> None:
    module = Path(lab.vcenter.__file__).parent / "server"
    go = str(go_tool(module))
    for command in (["vet", "./..."], ["test", "./..."]):
        done = subprocess.run(
            ["nice", go, *command],
            cwd=module,
            env=go_environment(),
            capture_output=True,
            text=True,
            timeout=500,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
