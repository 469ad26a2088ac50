"""Daemons of the lab: started in their own session, found again by pid file, never mistaken for another process.

A pid file holds the pid, the kernel's start time of that process and the machine's boot id. A pid that was given to
another process since then does not match and is left alone. Every process of a daemon also carries the pid file's path
in its environment, so that children whose leader was killed are found as well.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from mtv.model.errors import PermanentError, TemporaryError

MARKER = "MTV_LAB_PIDFILE"
_PROC = Path("/proc")
T = TypeVar("T")


@dataclass(frozen=True)
class Identity:
    """One process of one boot of the machine: the pid alone says little, as the kernel gives it out again."""

    pid: int
    start_time: int
    boot_id: str

    def __str__(self) -> str:
        return f"{self.pid} {self.start_time} {self.boot_id}\n"


def start_daemon(
    argv: Sequence[str | Path],
    *,
    log: Path,
    pidfile: Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> int:
    """Start `argv` in a session of its own, output appended to `log`; give its pid.

    `env` replaces the environment (None: ours). PermanentError if the program is missing or the pid file's process
    still runs.
    """
    if is_alive(pidfile):
        raise PermanentError(f"{pidfile.stem} already runs", cure=f"stop it first: {pidfile}", code="LabAlreadyRuns")
    for path in (log, pidfile):
        path.parent.mkdir(parents=True, exist_ok=True)
    environment = dict(os.environ if env is None else env)
    environment[MARKER] = str(pidfile)
    environment["SPT_NOENV"] = "1"  # setproctitle (Airflow's workers) would write its title over the marker
    with log.open("ab") as out:
        try:
            child = subprocess.Popen(
                [str(word) for word in argv],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=environment,
                cwd=cwd,
                start_new_session=True,
            )
        except OSError as why:
            raise PermanentError(f"cannot start {argv[0]}: {why.strerror}", code="LabCannotStart") from why
    try:
        _write_pidfile(pidfile, child.pid, log)
    except BaseException:
        child.kill()
        child.wait()
        raise
    # The daemon outlives us: tell Popen that nobody will wait for it, or its destructor warns.
    child.returncode = 0
    return child.pid


def stop_daemon(pidfile: Path, *, timeout_s: float = 10) -> None:
    """End the daemon and all its processes: SIGTERM, then after `timeout_s` SIGKILL. Nothing to do if it is gone."""
    identity = _read(pidfile)
    if identity is None:
        pidfile.unlink(missing_ok=True)
        return
    _signal_all(identity, pidfile, signal.SIGTERM)
    if not _gone_within(identity, pidfile, timeout_s):
        _signal_all(identity, pidfile, signal.SIGKILL)
        if not _gone_within(identity, pidfile, 10):
            raise TemporaryError(
                f"process {identity.pid} ({pidfile.stem}) does not end even when killed",
                cure="it may hang in the kernel: look at /proc/PID/stack, then try again",
                code="LabDoesNotEnd",
            )
    pidfile.unlink(missing_ok=True)


def is_alive(pidfile: Path) -> bool:
    """Does the very process that the pid file names still run? A zombie, or another process of that pid, does not."""
    identity = _read(pidfile)
    return identity is not None and _identify(identity.pid) == identity


def wait_until(
    check: Callable[[], T],
    *,
    timeout_s: float,
    what: str | Callable[[], str],
    interval_s: float = 0.1,
    give_up: Callable[[], str] | None = None,
) -> T:
    """Wait until `check()` gives something true, and give that.

    `give_up()` may say in words why waiting is useless (PermanentError). TemporaryError after `timeout_s` seconds:
    "waited 30 s for WHAT"; a function says it as it is then.
    """

    def awaited() -> str:
        return what if isinstance(what, str) else what()

    end = time.monotonic() + timeout_s
    while True:
        if found := check():
            return found
        if give_up is not None and (why := give_up()):
            raise PermanentError(f"{awaited()} will not come: {why}", code="LabGaveUp")
        if time.monotonic() >= end:
            raise TemporaryError(f"waited {timeout_s:g} s for {awaited()}", code="LabTimeout")
        time.sleep(interval_s)


def free_port() -> int:
    """A TCP port on 127.0.0.1 that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def tail(log: Path, lines: int = 5) -> str:
    """The last lines of a log, for an error message; a remark if there is none."""
    try:
        text = log.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return f"(no log {log})"
    return "\n".join(text[-lines:]) or f"({log} is empty)"


def _identify(pid: int) -> Identity | None:
    """The process of this pid; None if there is none or it is only a zombie."""
    try:
        # The command in parentheses may itself hold spaces and parentheses: read behind the last one.
        fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    if fields[0] in "ZX":
        return None
    return Identity(pid, int(fields[19]), (_PROC / "sys/kernel/random/boot_id").read_text().strip())


def _write_pidfile(pidfile: Path, pid: int, log: Path) -> None:
    identity = _identify(pid)
    if identity is None:
        raise TemporaryError(f"{pidfile.stem} ended at once: {tail(log)}", code="LabEndedAtOnce")
    draft = pidfile.with_suffix(".pid.tmp")
    draft.write_text(str(identity))
    draft.replace(pidfile)


def _read(pidfile: Path) -> Identity | None:
    try:
        pid, start_time, boot_id = pidfile.read_text().split()
        return Identity(int(pid), int(start_time), boot_id)
    except FileNotFoundError:
        return None
    except ValueError as why:
        raise PermanentError(
            f"{pidfile} is not a pid file of the lab", cure="delete it, and the process if it still runs"
        ) from why


def _marked(session: int, pidfile: Path) -> list[int]:
    """Processes of that session that carry our marker in their environment (their leader may be gone)."""
    marker = f"{MARKER}={pidfile}".encode()
    found = []
    for entry in _PROC.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            in_session = fields[0] not in "ZX" and int(fields[3]) == session
            if in_session and marker in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # ended meanwhile, or not ours: both mean that there is nothing to stop
    return found


def _living(identity: Identity, pidfile: Path) -> list[int]:
    leader = [identity.pid] if _identify(identity.pid) == identity else []
    return leader + [pid for pid in _marked(identity.pid, pidfile) if pid != identity.pid]


def _signal_all(identity: Identity, pidfile: Path, number: signal.Signals) -> None:
    for pid in _living(identity, pidfile):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue  # it ended between look and call


def _gone_within(identity: Identity, pidfile: Path, timeout_s: float) -> bool:
    end = time.monotonic() + timeout_s
    while _living(identity, pidfile):
        _reap(identity.pid)
        if time.monotonic() >= end:
            return False
        time.sleep(0.05)
    _reap(identity.pid)
    return True


def _reap(pid: int) -> None:
    """Take the exit status if the daemon is our own child, so that no zombie stays."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return  # not our child: its parent, or init, takes it
