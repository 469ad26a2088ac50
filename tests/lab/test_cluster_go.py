from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from lab.gotool import go_environment, go_tool

MODULE = Path(__file__).resolve().parents[2] / "lab" / "cluster"


@pytest.mark.lab
@pytest.mark.timeout(1800)  # compiles Kubernetes' client libraries the first time
def test_the_clusters_go_packages_pass_their_tests() -> None:
    command = ["nice", str(go_tool(MODULE)), "test", "./cri", "./provision", "./labinit"]
    done = subprocess.run(
        command, cwd=MODULE, env=go_environment(), capture_output=True, text=True, timeout=1700, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
