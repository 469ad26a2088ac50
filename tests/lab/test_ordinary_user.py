"""The lab's cluster, started by somebody who is not root: it keeps its contract, and goes without a trace."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.cache import cache_folder
from lab.process import wait_until
from lab.registry import PARTS
from lab.state import PYTHON_PATH, REPO, State
from tests.lab.ordinary_user import ID, SUBORDINATE, command_as_user
from tests.traces import traces

pytestmark = [pytest.mark.lab, pytest.mark.long, pytest.mark.timeout(1200)]
LAB = (sys.executable, "-m", "lab")
CONTRACT = Path(__file__).with_name("test_cluster_contract.py")


class OrdinaryUser:
    """Runs commands as a user without rights whose folder is `home`."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._needs = [Path(sys.base_prefix), Path(sys.prefix), REPO, home]

    def run(self, *argv: str | Path) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; its output is text."""
        environ = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": PYTHON_PATH,
            "PYTHONDONTWRITEBYTECODE": "1",
            "HOME": str(self.home),
            "MTV_CACHE": str(self.home / "cache"),
        }
        command = command_as_user(argv, needs=self._needs)
        return subprocess.run(command, env=environ, cwd="/", capture_output=True, text=True, timeout=600, check=False)

    def processes(self) -> list[str]:
        """The command lines of what runs as this user, or as one of those that are its own."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                uid = entry.stat().st_uid
                if uid == ID or uid in SUBORDINATE:
                    found.append((entry / "cmdline").read_bytes().decode().replace("\0", " "))
            except FileNotFoundError:
                continue  # it has ended meanwhile
        return found


@pytest.fixture
def user() -> Iterator[OrdinaryUser]:
    """A user with a cache of what was built already, and a folder whose path is short enough for Unix sockets."""
    if os.geteuid() != 0:
        pytest.skip("all other tests of the lab run as an ordinary user here")
    PARTS["cluster"].build()
    home = Path(tempfile.mkdtemp(prefix="mtv-user-"))
    try:
        for built in cache_folder().iterdir():
            if built.name.startswith(("guest-", "openstack", "go-", ".")):
                continue  # large, and no part of the cluster
            shutil.copytree(built, home / "cache" / built.name, symlinks=True)
        subprocess.run(["chown", "-R", f"{ID}:{ID}", home], check=True)
        found = OrdinaryUser(home)
        probe = found.run("unshare", "--user", "--map-root-user", "--map-auto", "true")
        if probe.returncode != 0:
            pytest.skip(f"this kernel lets no ordinary user make namespaces: {probe.stderr.strip()}")
        yield found
    finally:
        shutil.rmtree(home)


def test_an_ordinary_users_cluster_keeps_the_contract_and_leaves_nothing(user: OrdinaryUser) -> None:
    state = State(user.home / "lab")
    before = traces(state.dir)
    try:
        up = user.run(*LAB, "up", "cluster", "--state", state.dir)
        assert up.returncode == 0, up.stderr
        known = state.endpoints("cluster")
        # What wants root is told, and left out.
        assert known["classes"]["block"] is None
        status = user.run(*LAB, "status", "--state", state.dir)
        assert "memory limits of pods are not enforced" in status.stdout
        assert user.processes(), "the cluster runs as somebody else"
        environ = {
            **os.environ,
            "PYTHONPATH": PYTHON_PATH,
            "MTV_CONTRACT_KUBECONFIG": known["kubeconfig"],
            "MTV_CONTRACT_IMAGE": known["images"]["busybox"],
            "MTV_CONTRACT_CLASS": known["classes"]["filesystem"],
        }
        contract = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-n", "0", CONTRACT, "-k", "not memory_limit"],
            env=environ, cwd=REPO, capture_output=True, text=True, timeout=900, check=False,
        )  # fmt: skip
        assert contract.returncode == 0, contract.stdout[-5000:]
    finally:
        down = user.run(*LAB, "down", "--state", state.dir)
    assert down.returncode == 0, down.stderr
    # The kernel may still be taking the last of them down.
    wait_until(lambda: user.processes() == [], timeout_s=60, what="the end of all that ran as the user")
    assert traces(state.dir) == before
