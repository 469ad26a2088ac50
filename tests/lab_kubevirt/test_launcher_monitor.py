"""The launcher as a process of its own, with a real QEMU that has nothing to boot."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.process import wait_until

pytestmark = pytest.mark.guest
REPO = Path(__file__).parents[2]
PROGRAM = """
import signal, socket, sys
from pathlib import Path
from lab.kubevirt.launcher.monitor import Launcher
reader, writer = socket.socketpair()
reader.setblocking(False); writer.setblocking(False)
launcher = Launcher(Path(sys.argv[1]), Path(sys.argv[2]))
signal.signal(signal.SIGTERM, lambda *_: launcher.ask_to_stop())
signal.set_wakeup_fd(writer.fileno())
sys.exit(launcher.run(reader))
"""


class Conversation:
    """A launcher process and the agent's side of its socket."""

    def __init__(self, folder: Path) -> None:
        self.socket = folder / "launcher-sock"
        command = [sys.executable, "-c", PROGRAM, str(folder), str(folder)]
        self.process = subprocess.Popen(command, cwd=REPO, stdout=subprocess.DEVNULL, start_new_session=True)
        wait_until(self.socket.exists, timeout_s=300, what="the launcher's socket")

    def connect(self) -> Any:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(60)
        connection.connect(str(self.socket))
        lines = connection.makefile("rw")
        connection.close()  # the file keeps it open
        return lines


@pytest.fixture
def launcher(tmp_path: Path) -> Iterator[Conversation]:
    conversation = Conversation(tmp_path)
    yield conversation
    with contextlib.suppress(ProcessLookupError):  # nobody of it is left
        os.killpg(conversation.process.pid, signal.SIGKILL)  # with its QEMU
    conversation.process.wait()


def say(lines: Any, message: dict[str, Any]) -> None:
    lines.write(json.dumps(message) + "\n")
    lines.flush()


def instance(grace_s: int = 1, **devices: Any) -> dict[str, Any]:
    spec = {"domain": {"memory": {"guest": "64Mi"}, "devices": devices}, "terminationGracePeriodSeconds": grace_s}
    return {"vmi": {"metadata": {"name": "empty", "uid": "u"}, "spec": spec}}


def test_a_guest_that_ignores_the_button_is_killed_and_that_counts_as_shut_down(launcher: Conversation) -> None:
    with launcher.connect() as lines:
        say(lines, instance())
        assert json.loads(lines.readline())["state"] == "running"
        launcher.process.send_signal(signal.SIGTERM)
        assert json.loads(lines.readline()) == {"state": "shutdown", "how": "killed", "code": -9, "message": ""}
        say(lines, {"ack": True})
        assert launcher.process.wait(60) == 0


def test_an_agent_that_comes_back_is_told_the_present_state(launcher: Conversation) -> None:
    with launcher.connect() as lines:
        say(lines, instance())
        first = json.loads(lines.readline())
    with launcher.connect() as lines:
        say(lines, instance())
        assert json.loads(lines.readline()) == first


def test_an_instance_that_cannot_be_as_its_spec_says_is_refused_with_the_reason(launcher: Conversation) -> None:
    with launcher.connect() as lines:
        say(lines, instance(interfaces=[{"name": "default", "model": "vmxnet3"}]))
        answer = json.loads(lines.readline())
        assert answer["state"] == "crashed"
        assert "vmxnet3" in answer["message"]
        say(lines, {"ack": True})
        assert launcher.process.wait(60) == 1


def test_a_launcher_without_an_instance_ends_at_once_when_told_to(launcher: Conversation) -> None:
    launcher.process.send_signal(signal.SIGTERM)
    assert launcher.process.wait(60) == 0
