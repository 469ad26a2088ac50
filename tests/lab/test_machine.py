from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lab import packages
from lab.cluster import machine
from lab.cluster.machine import loop_devices, namespace_command

REPO = Path(__file__).parents[2]


def attach(sys_block: Path, name: str, backing: str) -> None:
    (sys_block / name / "loop").mkdir(parents=True)
    (sys_block / name / "loop" / "backing_file").write_text(f"{backing}\n")


def test_loop_devices_of_this_lab_are_found_outermost_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_SYS_BLOCK", tmp_path)
    attach(tmp_path, "loop0", "/lab/cluster/volumes/a")
    attach(tmp_path, "loop1", "/dev/loop0")
    attach(tmp_path, "loop2", "/lab/cluster-of-another/volumes/a")
    attach(tmp_path, "loop3", "/home/somebody/disk.img")
    assert loop_devices(Path("/lab/cluster")) == [Path("/dev/loop1"), Path("/dev/loop0")]


@pytest.mark.parametrize("root", [True, False])
def test_only_who_is_not_root_needs_a_user_namespace(monkeypatch: pytest.MonkeyPatch, root: bool) -> None:
    monkeypatch.setattr(machine, "is_root", lambda: root)
    assert ("--user" in namespace_command()) is not root
    assert "--kill-child" in namespace_command()


def test_missing_packages_are_named_with_their_reasons() -> None:
    wanted = {"dpkg": "is there", "no-such-package-anywhere": "because"}
    assert packages.missing(wanted) == {"no-such-package-anywhere": "because"}


def test_every_package_has_a_reason() -> None:
    assert all(len(reason) > 10 for reason in packages.ALL.values())


def test_too_little_disk_names_the_folder_and_the_need(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "DISK_GB", 10**9)
    problem = packages._disk()[0]
    assert problem.fatal
    assert "GB free" in problem.message
    assert str(packages.DISK_GB) in problem.cure


def test_too_little_memory_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "MEMORY_GB", 10**9)
    assert packages._memory()[0].fatal


def test_a_machine_without_loopback_has_no_ports() -> None:
    assert packages._ports() == []
    ask = "from lab import packages; print(*packages._ports())"
    no_network = ["unshare", "--user", "--map-root-user", "--net", sys.executable, "-c", ask]
    done = subprocess.run(no_network, cwd=REPO, capture_output=True, text=True, check=True, timeout=300)
    assert done.stdout.startswith("problem: 16 TCP ports of 127.0.0.1 cannot be used")
    assert "ip link set lo up" in done.stdout


@pytest.mark.parametrize(
    ("release", "words"),
    [
        ({"ID": "debian", "VERSION_ID": "12"}, []),
        ({"ID": "debian", "VERSION_ID": "13"}, []),
        ({"ID": "ubuntu", "VERSION_ID": "24.04", "PRETTY_NAME": "Ubuntu 24.04"}, ["warning: Ubuntu 24.04 is untried"]),
    ],
    ids=["debian-12", "debian-13", "ubuntu"],
)
def test_systems_other_than_debian_12_and_13_get_a_warning(
    monkeypatch: pytest.MonkeyPatch, release: dict[str, str], words: list[str]
) -> None:
    monkeypatch.setattr(packages.platform, "freedesktop_os_release", lambda: release)
    found = [str(problem).split(" — ")[0] for problem in packages._platform()]
    assert found == words


def test_a_python_that_is_too_new_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 19, 0))
    assert "use 3.11, 3.12 or 3.13" in packages._python()[0].cure


@pytest.mark.parametrize(
    ("settings", "cure"),
    [
        ({"kernel/apparmor_restrict_unprivileged_userns": "1"}, "kernel.apparmor_restrict_unprivileged_userns=0"),
        ({"kernel/unprivileged_userns_clone": "0"}, "kernel.unprivileged_userns_clone=1"),
        ({}, "user.max_user_namespaces"),
    ],
    ids=["apparmor", "debian", "other"],
)
def test_who_may_not_make_user_namespaces_gets_the_setting_that_is_in_the_way(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], cure: str
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(packages, "_works", lambda _: False)
    monkeypatch.setattr(packages, "_setting", lambda name: settings.get(name, ""))
    (problem,) = packages._namespaces()
    assert problem.fatal
    assert cure in problem.cure


def test_an_ordinary_user_without_subordinate_ids_gets_the_command_that_gives_some(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(packages, "missing", lambda _: {})
    monkeypatch.setattr(packages, "_works", lambda command: "--map-auto" not in command)
    (problem,) = packages._namespaces()
    assert "usermod --add-subuids" in problem.cure


def test_overlays_and_loop_devices_that_do_not_work_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "_works", lambda _: False)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(packages.Path, "exists", lambda _: False)
    assert [problem.fatal for problem in (*packages._overlay(), *packages._loop())] == [True, False]


@pytest.mark.parametrize("with_lab", [True, False])
def test_of_a_python_that_does_not_fit_nothing_else_is_asked(monkeypatch: pytest.MonkeyPatch, with_lab: bool) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 9, 2))
    monkeypatch.delattr(packages.platform, "freedesktop_os_release")
    (problem,) = packages.problems(lab=with_lab)
    assert problem.message.startswith("this is Python")


def test_who_makes_the_environment_alone_needs_no_namespaces_but_debian(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "_namespaces", lambda: pytest.fail("asked"))
    monkeypatch.setattr(packages.shutil, "which", lambda _: None)
    assert [problem.message for problem in packages.problems(lab=False)] == ["this is not Debian"]


def test_the_check_needs_only_the_standard_library() -> None:
    code = (
        "import sys; sys.modules['mtv'] = sys.modules['rich'] = None; from lab.__main__ import main; main(['apt-line'])"
    )
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "apt-get install" in done.stdout or "nothing is missing" in done.stdout
