"""`python -m lab` and `python3 -m lab.bootstrap`: what they print and how they end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import lab
from lab import bootstrap, packages
from lab.__main__ import main
from lab.guests import kernel
from lab.process import wait_until
from lab.registry import PARTS


@pytest.fixture(autouse=True)
def _own_signals() -> Iterator[None]:
    """The command takes SIGTERM for Ctrl-C; here it runs inside pytest's process."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def test_status_names_every_part_with_what_is_real(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--state", str(tmp_path)]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert all(name in out for name in PARTS)
    assert "down" in out


@pytest.mark.parametrize("command", ["up", "down", "status", "logs", "build"])
def test_an_unknown_part_is_one_line_with_those_there_are(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "clutser", "--state", str(tmp_path / "none")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("lab: the lab has no part 'clutser' — choose from: ")
    assert "cluster" in line


def test_logs_shows_the_last_lines_of_each_log_of_a_part(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("etcd", "kubelet"):
        log = tmp_path / "cluster" / "log" / f"{name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text("".join(f"{name} line {number}\n" for number in range(9)))
    assert main(["logs", "cluster", "-n", "2", "--state", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    for name in ("etcd", "kubelet"):
        assert f"{name} line 6" not in out
        assert f"{name} line 7\n{name} line 8" in out


def test_where_nothing_ran_there_are_no_logs_and_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["logs", "cluster", "--state", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"no logs of cluster in {tmp_path}\n"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["--state", __file__], "test_command.py is no folder"),
        (["--state", f"{__file__}/below"], "test_command.py is no folder"),
        (["-n", "0"], "'0' is no number from 1 on"),
        (["-n", "-3"], "'-3' is no number from 1 on"),
        (["-n", "all"], "'all' is no number from 1 on"),
    ],
)
def test_a_wrong_option_is_one_line_after_the_usage(
    wrong: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["logs", *wrong])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("command", ["up", "down", "status", "logs"])
@pytest.mark.parametrize("below", ["", "/below"])
def test_a_state_folder_of_the_environment_that_is_a_file_is_one_line_after_the_usage(
    command: str, below: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MTV_LAB_STATE", f"{__file__}{below}")
    with pytest.raises(SystemExit) as ended:
        main([command, "cluster"])
    assert ended.value.code == 2
    assert f"MTV_LAB_STATE: {__file__} is no folder" in capsys.readouterr().err.splitlines()[-1]


def test_a_named_state_folder_goes_before_that_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MTV_LAB_STATE", __file__)
    assert main(["logs", "cluster", "--state", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"no logs of cluster in {tmp_path}\n"


def test_down_of_what_never_ran_is_fine(tmp_path: Path) -> None:
    assert main(["down", "--state", str(tmp_path / "none")]) == 0
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("sudo", ["sudo ", ""], ids=["sudo asks", "no sudo"])
def test_without_root_the_reasons_and_one_line_for_all_of_the_lane_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], sudo: str
) -> None:
    if sudo:
        (tmp_path / "sudo").write_text("#!/bin/sh\nexit 1\n")
        (tmp_path / "sudo").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(packages, "missing", dict)
    lane = {"bubblewrap": "containers of the lab's cluster", "cpio": "initramfs of the demo's guests"}
    with pytest.raises(bootstrap.Stop) as stopped:
        bootstrap._install_packages({"bubblewrap": "containers of the lab's cluster"}, of=lane)
    assert str(stopped.value).splitlines()[1].strip() == (
        f"{sudo}apt-get update && {sudo}apt-get install --no-install-recommends bubblewrap cpio"
    )
    assert "bubblewrap  containers of the lab's cluster" in capsys.readouterr().err


def test_a_build_that_is_given_up_ends_with_what_it_started() -> None:
    build = subprocess.Popen(["sh", "-c", "sleep 600 & echo $!; wait"], stdout=subprocess.PIPE, start_new_session=True)
    assert build.stdout is not None
    with build.stdout as said:
        compiler = Path("/proc", said.readline().decode().strip())
        assert compiler.exists()
        bootstrap._stop(build)
        assert said.read() == b"", "the compiler still holds its standard output"
    wait_until(lambda: not (compiler / "exe").exists(), timeout_s=300, what="the end of the compiler")


def test_the_lab_asks_no_proxy_for_loopback_and_its_images_are_for_everybody() -> None:
    ask = (
        "import os; os.umask(0o077); import lab;"
        " print(os.environ['NO_PROXY'], os.environ['no_proxy'], oct(os.umask(0)))"
    )
    environment = {"no_proxy": "corp.example,localhost", "PYTHONPATH": str(Path(lab.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-S", "-c", ask], env=environment, capture_output=True, text=True, check=True, timeout=300
    )
    assert done.stdout.split() == ["127.0.0.1,localhost", "corp.example,localhost,127.0.0.1", "0o22"]


def test_debians_tools_are_asked_in_english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    monkeypatch.setenv("LANGUAGE", "de")
    assert kernel._ask_for_package_name().startswith("linux-image-")


def test_tools_for_disks_are_found_though_an_ordinary_users_path_leaves_them_out() -> None:
    ask = "import lab, shutil; print(all(map(shutil.which, ('mke2fs', 'sfdisk', 'losetup', 'depmod'))))"
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "PYTHONPATH": str(Path(lab.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-S", "-c", ask], env=environment, capture_output=True, text=True, check=True, timeout=300
    )
    assert done.stdout == "True\n"


def test_a_command_that_fails_is_told_with_its_last_words() -> None:
    with pytest.raises(bootstrap.Stop, match=r"(?s)`sh -c .*` failed with exit code 3\nno such index"):
        bootstrap._run(["sh", "-c", "echo no such index; exit 3"], timeout_s=60, quiet=True)
    with pytest.raises(subprocess.TimeoutExpired):
        bootstrap._run(["sleep", "60"], timeout_s=0.1)
