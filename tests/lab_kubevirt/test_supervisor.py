"""Components are started again when they end, end with their supervisor, and give up honestly."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab.process import wait_until

REPO = Path(__file__).parents[2]
Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def supervise(tmp_path: Path) -> Iterator[Start]:
    """Start a supervisor of these commands (name to argv); logs and its own output are in tmp_path."""
    started: list[subprocess.Popen[bytes]] = []

    def start(**commands: list[str]) -> subprocess.Popen[bytes]:
        components = [
            {"name": name, "argv": argv, "log": str(tmp_path / f"{name}.log"), "env": {}}
            for name, argv in commands.items()
        ]
        (tmp_path / "components.json").write_text(json.dumps({"components": components}))
        with (tmp_path / "supervisor.log").open("wb") as log:
            command = [sys.executable, "-m", "lab.kubevirt.supervisor", str(tmp_path / "components.json")]
            started.append(subprocess.Popen(command, cwd=REPO, stdout=log))
        return started[-1]

    yield start
    for process in started:
        process.terminate()
        process.wait(30)


def pids(log: Path) -> list[int]:
    return [int(word) for word in log.read_text().split()] if log.exists() else []


def runs(pid: int) -> bool:
    """Zombies do not run."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


STAYS = ["sh", "-c", "echo $$; exec sleep 600"]


def test_a_component_that_ends_is_started_again(supervise: Start, tmp_path: Path) -> None:
    supervise(worker=STAYS)
    log = tmp_path / "worker.log"
    wait_until(lambda: len(pids(log)) == 1, timeout_s=300, what="the first start")
    (first,) = pids(log)
    wait_until(lambda: "sleep" in Path(f"/proc/{first}/cmdline").read_text(), timeout_s=300, what="sleep")
    subprocess.run(["kill", "-9", str(first)], check=True)
    wait_until(lambda: len(pids(log)) == 2, timeout_s=300, what="the second start")


def test_one_that_ends_again_and_again_takes_the_others_with_it(supervise: Start, tmp_path: Path) -> None:
    supervisor = supervise(worker=STAYS, broken=["false"])
    assert supervisor.wait(120) == 1
    assert not any(runs(pid) for pid in pids(tmp_path / "worker.log"))
    assert "broken ended 5 times" in (tmp_path / "supervisor.log").read_text()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["told-to-stop", "killed"])
def test_components_end_with_their_supervisor(supervise: Start, tmp_path: Path, how: signal.Signals) -> None:
    supervisor = supervise(worker=STAYS)
    wait_until(lambda: pids(tmp_path / "worker.log"), timeout_s=300, what="the worker")
    (worker,) = pids(tmp_path / "worker.log")
    supervisor.send_signal(how)
    supervisor.wait(60)
    wait_until(lambda: not runs(worker), timeout_s=300, what="the worker to end")
