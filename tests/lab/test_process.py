from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lab.process import free_port, is_alive, start_daemon, stop_daemon, tail, wait_until
from mtv.model.errors import PermanentError, TemporaryError

SLEEP = ["sleep", "120"]
STUBBORN = ["sh", "-c", "trap '' TERM; echo 1; while :; do sleep 0.1; done"]


@pytest.fixture
def pidfile(tmp_path: Path) -> Path:
    return tmp_path / "run" / "thing.pid"


def start(pidfile: Path, argv: list[str] = SLEEP) -> int:
    return start_daemon(argv, log=pidfile.with_suffix(".log"), pidfile=pidfile)


def exists(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] not in "ZX"


def test_a_daemon_lives_in_its_own_session_until_it_is_stopped(pidfile: Path) -> None:
    pid = start(pidfile)
    assert is_alive(pidfile)
    assert os.getsid(pid) == pid
    stop_daemon(pidfile)
    assert not exists(pid)
    assert not pidfile.exists()


def test_a_daemon_that_ignores_the_signal_to_end_is_killed(pidfile: Path) -> None:
    pid = start(pidfile, STUBBORN)
    wait_until(lambda: "1" in tail(pidfile.with_suffix(".log")), timeout_s=300, what="the handler")
    stop_daemon(pidfile, timeout_s=0.2)
    assert not exists(pid)


def test_children_are_ended_even_if_their_leader_was_killed(pidfile: Path) -> None:
    pid = start(pidfile, ["sh", "-c", "sleep 120 & echo $!; wait"])
    log = pidfile.with_suffix(".log")
    child = int(wait_until(lambda: log.read_text().strip(), timeout_s=300, what="the child"))
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert not is_alive(pidfile)
    stop_daemon(pidfile)
    wait_until(lambda: not exists(child), timeout_s=300, what="the child to end")


def test_a_child_that_gave_itself_another_title_is_found_too(pidfile: Path) -> None:
    """As Airflow's workers do: the title takes the memory in which the kernel shows the environment."""
    renamed = "import os, setproctitle as s, time; s.setproctitle('worker' * 99); print(os.getpid(), flush=True)"
    pid = start(pidfile, ["sh", "-c", f'{sys.executable} -c "{renamed}; time.sleep(120)" & wait'])
    log = pidfile.with_suffix(".log")
    child = int(wait_until(lambda: log.read_text().strip(), timeout_s=300, what="the child"))
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    stop_daemon(pidfile)
    ended = not exists(child)
    if not ended:
        os.kill(child, signal.SIGKILL)
    assert ended


def test_a_pid_that_was_given_to_another_process_is_left_alone(pidfile: Path) -> None:
    other = subprocess.Popen(SLEEP)
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        pidfile.parent.mkdir()
        pidfile.write_text(f"{other.pid} 1 {boot}\n")  # started at another time: not the one that was meant
        assert not is_alive(pidfile)
        stop_daemon(pidfile)
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_a_pid_file_of_an_earlier_boot_names_nobody(pidfile: Path) -> None:
    pid = start(pidfile)
    kept = pidfile.read_text()
    pidfile.write_text(kept.rsplit(" ", 1)[0] + " 00000000-0000-0000-0000-000000000000\n")
    assert not is_alive(pidfile)
    pidfile.write_text(kept)
    stop_daemon(pidfile)
    assert not exists(pid)


def test_a_broken_pid_file_is_named_and_nothing_is_killed(pidfile: Path) -> None:
    pidfile.parent.mkdir()
    pidfile.write_text("1")
    with pytest.raises(PermanentError, match=r"thing\.pid is not a pid file"):
        stop_daemon(pidfile)


def test_stopping_what_never_ran_does_nothing(pidfile: Path) -> None:
    stop_daemon(pidfile)


def test_a_second_daemon_under_the_same_pid_file_is_refused(pidfile: Path) -> None:
    start(pidfile)
    try:
        with pytest.raises(PermanentError, match="already runs"):
            start(pidfile)
    finally:
        stop_daemon(pidfile)


def test_a_missing_program_is_named(pidfile: Path) -> None:
    with pytest.raises(PermanentError, match="no-such-program"):
        start(pidfile, ["no-such-program"])
    assert not pidfile.exists()


def test_waiting_ends_after_its_time_and_says_for_what() -> None:
    with pytest.raises(TemporaryError, match=r"waited 0\.1 s for the moon"):
        wait_until(lambda: False, timeout_s=0.1, what="the moon")


def test_waiting_ends_at_once_when_it_is_useless() -> None:
    with pytest.raises(PermanentError, match="the moon will not come: it fell"):
        wait_until(lambda: False, timeout_s=600, what="the moon", give_up=lambda: "it fell")


def test_waiting_gives_what_was_found() -> None:
    answers = iter([0, 0, 7])
    assert wait_until(lambda: next(answers), timeout_s=300, what="seven", interval_s=0) == 7


def test_a_free_port_can_be_bound() -> None:
    import socket

    with socket.socket() as server:
        server.bind(("127.0.0.1", free_port()))
