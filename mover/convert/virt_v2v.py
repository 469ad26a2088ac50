"""Runs virt-v2v-in-place once and reads what it says: phases and warnings as JSON, inspection from its debug log."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from mover.convert import failures
from mover.convert.process_group import kill_group
from mover.halt import Halt
from mtv.model.errors import NOT_UNDERSTOOD

TIMEOUT_S = 4 * 3600.0
"""Longest conversion allowed; a Windows guest with many updates under TCG has been seen to take over an hour."""

_LOOK_S = 0.2

PHASES = (
    ("Setting up the source", "inspect", 1),
    ("Opening the source", "inspect", 5),
    ("Inspecting the source", "inspect", 25),
    ("Checking for sufficient free disk space", "convert", 40),
    ("Converting", "convert", 45),
    ("Mapping filesystem data", "convert", 85),
    ("Closing the overlay", "convert", 95),
    ("Finishing off", "convert", 100),
)
"""Start of virt-v2v's message → our phase and the percent of the whole conversion reached when it appears."""

_INSPECTION = re.compile(r"(i_\w+|gcaps_\w+) = (.*)$")
"""Not tied to the start of a line or word: the appliance's console shares the log and may leave an unended line before
it, as in `took 0.09 secsgcaps_block_bus = virtio-blk`.
"""


class Message(msgspec.Struct, frozen=True):
    """One line of `--machine-readable`: type is message, info, warning or error."""

    message: str
    type: str = "message"


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What one run said. `facts` holds the inspection (`i_distro`, …) and the drivers found (`gcaps_block_bus`, …)."""

    exit_code: int
    warnings: tuple[str, ...]
    errors: tuple[str, ...]
    facts: dict[str, str]
    timed_out: bool = False


def run(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    log: Path,
    on_message: Callable[[Message], None],
    timeout_s: float = TIMEOUT_S,
    halt: Halt | None = None,
) -> Report:
    """Run `argv` plus the reporting options; keep its whole debug output in `log`.

    A run is over when its children have ended, too: their servers write to the overlays until then. The process group
    is killed when `timeout_s` is over (`timed_out`), `halt` is raised, or virt-v2v has failed; `exit_code` is not zero.
    """
    read_fd, write_fd = os.pipe()
    messages: list[Message] = []
    with log.open("wb") as sink:
        with failures.starting(argv[0]):
            process = subprocess.Popen(
                [argv[0], "-v", f"--machine-readable=fd:{write_fd}", *argv[1:]],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                env=dict(env),
                pass_fds=(write_fd,),
                start_new_session=True,
            )
        os.close(write_fd)
        watchdog = _Watchdog(process.pid, timeout_s, halt or Halt())
        watchdog.start()
        try:
            with os.fdopen(read_fd, "rb") as stream:
                for line in stream:
                    if message := _parse(line):
                        messages.append(message)
                        on_message(message)
            exit_code = process.wait() or (-signal.SIGKILL if watchdog.cut_off else 0)
        finally:
            watchdog.end()
            if process.poll() is None:
                kill_group(process.pid)
                process.wait()
    errors = tuple(m.message for m in messages if m.type == "error")
    if exit_code and not errors:
        errors = last_words(log, Path(argv[0]).name)
    return Report(
        exit_code=exit_code,
        warnings=tuple(m.message for m in messages if m.type == "warning"),
        errors=errors,
        facts=read_facts(log),
        timed_out=watchdog.timed_out,
    )


def read_facts(log: Path) -> dict[str, str]:
    """Return the `i_…` and `gcaps_…` lines of a debug log; the last one of a name wins."""
    facts: dict[str, str] = {}
    with log.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if match := _INSPECTION.search(line):
                facts[match[1]] = match[2].strip()
    return facts


def last_words(log: Path, program: str) -> tuple[str, ...]:
    """Return what `program` said last in its own name, if anything.

    Its parts in C, which open encrypted disks, end it with a line in the log and no message. The appliance writes there
    as well, so that the line may begin behind what that was saying.
    """
    said = ""
    with log.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            _, its_name, words = line.rpartition(f"{program}: ")
            if its_name and not words.startswith("virt-v2v "):  # it begins with its version
                said = words.strip()
    return (said,) if said else ()


def phase_of(message: str) -> tuple[str, int] | None:
    """Return our phase and percent for one of virt-v2v's messages, `None` for one that marks no phase."""
    for start, phase, percent in PHASES:
        if message.startswith(start):
            return phase, percent
    return None


def _parse(line: bytes) -> Message | None:
    """The stream mixes JSON messages with plain capability lines and blank lines; only JSON objects count. Names out of
    a guest need not be UTF-8.
    """
    if not line.startswith(b"{"):
        return None
    try:
        return msgspec.json.decode(line.decode("utf-8", errors="replace"), type=Message)
    except NOT_UNDERSTOOD:
        return None  # cut off in the middle: virt-v2v was killed, and how it ended says more than its last line


class _Watchdog(threading.Thread):
    """Ends a process group when its time is over, somebody wants to stop, or its leader has failed."""

    def __init__(self, group: int, timeout_s: float, halt: Halt) -> None:
        super().__init__(name="watchdog", daemon=True)
        self.timed_out = False
        self.cut_off = False
        self._group = group
        self._deadline = time.monotonic() + timeout_s
        self._halt = halt
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.wait(_LOOK_S):
            self.timed_out = time.monotonic() > self._deadline
            # A virt-v2v that fails while it opens the disks leaves its qemu-nbd behind, which would run for ever.
            if self.timed_out or self._halt.is_set() or self._leader_has_failed():
                self.cut_off = True
                kill_group(self._group)
                return

    def _leader_has_failed(self) -> bool:
        """Whether the leader ended with a failure; it is left to be waited for, so its number is still its own."""
        try:
            ended = os.waitid(os.P_PID, self._group, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return False  # waited for already
        return ended is not None and ended.si_status != 0

    def end(self) -> None:
        """Stop watching; the process has ended."""
        self._over.set()
        self.join()
