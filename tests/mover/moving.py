"""What the mover's tests share: disks with known content, NBD servers, specs, runs in this process or another one."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import blake3
import msgspec
import pytest

from lab.state import PYTHON_PATH
from mover.events import Events
from mover.feed import Patience
from mover.halt import Halt
from mover.transfer import transfer
from mtv.model.transfer import DiskSource, DiskTarget, DiskTransfer, NbdUri, TransferResult, TransferSpec, Verify

MIB = 1 << 20
MUCH_LEFT = ("--limit", "20M")
"""For a mover that is to be amid its copy when it is looked at, however busy the machine is."""


def make_disk(path: Path, size: int, areas: Sequence[tuple[int, int]], *, seed: int = 7) -> Path:
    """A sparse file of `size` bytes with random bytes at (offset, length)."""
    with path.open("wb") as file:
        file.truncate(size)
        for number, (offset, length) in enumerate(areas):
            noise = blake3.blake3(f"{seed} {number}".encode())
            file.seek(offset)
            end = min(offset + length, size)
            for position in range(offset, end, 4 * MIB):
                file.write(noise.digest(length=min(4 * MIB, end - position), seek=position))
    return path


@contextmanager
def nbdkit(tmp_path: Path, *arguments: str, name: str = "nbd", port: int = 0) -> Iterator[str]:
    """The URI of an nbdkit on a Unix socket, or on a port of loopback; its process ends with the block."""
    socket = tmp_path / f"{name}.sock"
    pidfile = tmp_path / f"{name}.pid"
    socket.unlink(missing_ok=True)
    pidfile.unlink(missing_ok=True)
    where = ["-i", "127.0.0.1", "-p", str(port)] if port else ["-U", socket]
    process = subprocess.Popen(["nbdkit", "-f", "-r", *where, "-P", pidfile, *arguments])
    try:
        wait_for(lambda: pidfile.exists() or process.poll() is not None, "nbdkit")
        assert process.poll() is None, "nbdkit ended at once"
        yield f"nbd://127.0.0.1:{port}" if port else f"nbd+unix:///?socket={socket}"
    finally:
        process.kill()
        process.wait()


def wait_for(happened: Callable[[], Any], what: str, *, timeout_s: float = 300.0) -> None:
    """Return when it happened; the time is only a bound for tests that hang."""
    deadline = time.monotonic() + timeout_s
    while not happened():
        assert time.monotonic() < deadline, f"{what} did not happen"
        time.sleep(0.01)


def disk_of(
    source: DiskSource | str, size: int, target: Path, *, id: str = "0", generation: str = "1", block: bool = False
) -> DiskTransfer:
    """A disk of a spec; a text source is an NBD URI."""
    return DiskTransfer(
        id=id,
        size_bytes=size,
        source=NbdUri(uri=source) if isinstance(source, str) else source,
        target=DiskTarget(path=str(target), block=block),
        identity=f"disk {id}",
        generation=generation,
    )


def spec_of(work: Path, *disks: DiskTransfer, epoch: int = 1, verify: Verify = Verify.FULL) -> TransferSpec:
    """A spec whose work volume is `work` (made if it is not there)."""
    work.mkdir(exist_ok=True)
    return TransferSpec(
        plan="p",
        run="1",
        vm="v",
        epoch=epoch,
        disks=disks,
        verify=verify,
        work_dir=str(work),
        credentials_dir=str(work),
    )


class Ran(msgspec.Struct):
    """A finished run and what it said."""

    result: TransferResult
    lines: list[dict[str, Any]]

    def said(self, words: str) -> bool:
        """Whether a log line holds these words."""
        return any(words in line.get("message", "") for line in self.lines)


def run(spec: TransferSpec) -> Ran:
    """Run a transfer in this process."""
    stream = io.StringIO()
    result = transfer(spec, Events(stream), Halt(), takeover_wait_s=5)
    return Ran(result, [json.loads(line) for line in stream.getvalue().splitlines()])


@contextmanager
def running_mover(folder: Path, spec: TransferSpec, *extra: str) -> Iterator[subprocess.Popen[str]]:
    """The command in another process, which is killed with the block if it still runs."""
    path = folder / f"spec-{spec.epoch}.json"
    path.write_bytes(msgspec.json.encode(spec))
    argv = [sys.executable, "-m", "mover", "transfer", "--spec", str(path), *extra]
    with subprocess.Popen(
        argv, env={**os.environ, "PYTHONPATH": PYTHON_PATH}, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def on_a_terminal(*argv: object) -> tuple[int, str]:
    """Exit code and all that a terminal shows of the command."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "mover", *(str(word) for word in argv)]
    done = subprocess.run(command, stdout=theirs, env={**os.environ, "PYTHONPATH": PYTHON_PATH}, check=False)
    os.close(theirs)
    shown = b""
    # A read gives what one write has left, or a part; EIO says that nobody can write any more and all was read.
    with os.fdopen(ours, "rb", buffering=0) as terminal, suppress(OSError):
        while piece := terminal.read(65536):
            shown += piece
    return done.returncode, shown.decode()


def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries after failures follow each other without the pauses that a real server needs."""
    monkeypatch.setattr(Patience.__init__, "__kwdefaults__", {"first_pause_s": 0.01})


def reads_in(log: Path) -> list[tuple[int, int]]:
    """(offset, length) of every read in the log of nbdkit's log filter."""
    pattern = re.compile(r" Read id=\d+ offset=0x([0-9a-f]+) count=0x([0-9a-f]+)")
    return [(int(offset, 16), int(count, 16)) for offset, count in pattern.findall(log.read_text())]


def same_bytes(one: Path, other: Path, size: int) -> bool:
    """Whether the first `size` bytes are the same."""
    with one.open("rb") as left, other.open("rb") as right:
        while size > 0:
            step = min(4 * MIB, size)
            if left.read(step) != right.read(step):
                return False
            size -= step
    return True


@contextmanager
def again_and_again(deed: Callable[[], None], every_s: float) -> Iterator[None]:
    """Do it in the background until the block ends."""
    done = threading.Event()

    def repeat() -> None:
        while not done.wait(every_s):
            deed()

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
