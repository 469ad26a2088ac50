"""A cluster of its own, killed and stopped in several ways: the machine is as before, and the reason is told."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import control
from lab.cluster.machine import make_memory_cgroup
from lab.process import wait_until
from lab.state import State
from tests.traces import traces

pytestmark = pytest.mark.lab


@pytest.fixture
def state() -> Iterator[State]:
    folder = Path(tempfile.mkdtemp(prefix="mtv-life-"))  # short, because of Unix sockets below it
    try:
        yield State(folder)
    finally:
        control.down(State(folder))
        shutil.rmtree(folder)


def pid_of(folder: Path, word: str) -> int:
    """The machine's pid of a component of the cluster in that folder."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                argv = (entry / "cmdline").read_bytes().split(b"\0")
            except (FileNotFoundError, ProcessLookupError):
                continue
            if len(argv) > 1 and argv[1] == word.encode() and str(folder).encode() in b" ".join(argv):
                return int(entry.name)
    raise AssertionError(f"no process {word}")


def has_process(folder: Path, word: str) -> bool:
    try:
        pid_of(folder, word)
    except AssertionError:
        return False
    return True


def test_nothing_is_left_after_a_cluster_was_stopped(state: State) -> None:
    before = traces(state.dir)
    control.up(state, ["cluster"])
    assert traces(state.dir)["processes"], "the look at the machine proves nothing"
    kubeconfig = Path(state.endpoints("cluster")["kubeconfig"])
    assert kubeconfig.stat().st_mode & 0o777 == 0o600
    control.down(state)
    assert traces(state.dir) == before
    assert [path.name for path in state.folder("cluster").iterdir()] == ["log"]


def test_a_component_that_dies_takes_the_cluster_with_it_and_is_named(state: State) -> None:
    component = "runtime"  # of all of them the one that has mounts and loop devices to leave behind
    before = traces(state.dir)
    control.up(state, ["cluster"])
    os.kill(pid_of(state.dir, component), signal.SIGKILL)
    wait_until(lambda: control.status(state, ["cluster"])[0].state == "broken", timeout_s=300, what="the end")
    wait_until(lambda: not traces(state.dir)["processes"], timeout_s=300, what="the other components to end")
    # The outermost process counts as alive until the machine has taken its exit status.
    problems = wait_until(lambda: control.status(state, ["cluster"])[0].problems, timeout_s=300, what="the reason")
    assert f"{component} killed by signal 9" in problems[0]
    control.down(state)
    assert traces(state.dir) == before


def test_a_cluster_whose_launcher_was_killed_is_cleaned_up(state: State) -> None:
    before = traces(state.dir)
    control.up(state, ["cluster"])
    pid = int((state.folder("cluster") / "cluster.pid").read_text().split()[0])
    os.kill(pid, signal.SIGKILL)
    control.down(state)
    assert traces(state.dir) == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_lab_whose_start_is_interrupted_stops_what_it_had_started(state: State, number: signal.Signals) -> None:
    before = traces(state.dir)
    # Who runs the tests in the background of a script has SIGINT ignored, and so would the command.
    command = ["env", "--default-signal=INT", sys.executable, "-m", "lab", "up", "kubevirt", "--state", str(state.dir)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as up:
        try:
            wait_until(lambda: has_process(state.dir, "runtime"), timeout_s=300, what="the first components")
            assert up.poll() is None, "it was not interrupted in its start"
            up.send_signal(number)
            said, _ = up.communicate(timeout=300)
        finally:
            up.kill()
    assert up.returncode == 130, said
    assert said.splitlines()[-1] == "lab: interrupted; what had been started is stopped again"
    assert "Traceback" not in said
    assert traces(state.dir) == before
    assert [part.state for part in control.status(state, ["cluster", "kubevirt"])] == ["down", "down"]


def test_a_memory_cgroup_is_the_same_one_for_the_same_lab(state: State) -> None:
    first, second = make_memory_cgroup(state.dir), make_memory_cgroup(state.dir)
    assert first == second
    if first:
        first.rmdir()
