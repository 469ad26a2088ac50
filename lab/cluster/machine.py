"""What the cluster needs of this machine, and how that is undone: namespaces, a memory cgroup, loop devices, files."""

from __future__ import annotations

import getpass
import hashlib
import os
import shutil
import subprocess
import time
from pathlib import Path

from mtv.model.errors import PermanentError

SUBORDINATE_CURE = (
    "install uidmap, then once: sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $USER"
)
_SYS_BLOCK = Path("/sys/block")
_MOUNTS = Path("/proc/self/mounts")
_OWN_CGROUPS = Path("/proc/self/cgroup")


def is_root() -> bool:
    """May we mount, make loop devices and cgroups for real?"""
    return os.geteuid() == 0


def has_subordinate_ids() -> bool:
    """May this user map more ids than its own into a user namespace (package uidmap, /etc/subuid, /etc/subgid)?

    Pods need it: the kubelet gives volumes to their user and group.
    """
    if shutil.which("newuidmap") is None:
        return False
    names = {getpass.getuser(), str(os.geteuid())}
    for table in (Path("/etc/subuid"), Path("/etc/subgid")):
        try:
            lines = table.read_text().splitlines()
        except OSError:
            return False
        if not any(line.split(":")[0] in names for line in lines):
            return False
    return True


def namespace_command() -> list[str]:
    """The command that runs another one as first process of new namespaces.

    Ending it ends every process inside and drops every mount: nothing of the cluster outlives it.
    """
    command = ["unshare"]
    if not is_root():
        command += ["--user", "--map-root-user", "--map-auto"]
    return [*command, "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--"]


def memory_cgroup_name(state_folder: Path) -> str:
    """The name of the cgroup of the lab in that folder."""
    return f"mtv-lab-{hashlib.sha256(str(state_folder).encode()).hexdigest()[:12]}"


def make_memory_cgroup(state_folder: Path) -> Path | None:
    """A cgroup of our own for memory limits, version 1 or 2; None where we have no right to one."""
    if not is_root():
        return None
    name = memory_cgroup_name(state_folder)
    for line in _MOUNTS.read_text().splitlines():
        _, where, kind, options, *_ = line.split()
        try:
            if kind == "cgroup" and "memory" in options.split(","):
                return _made(Path(where + _own_path("memory")) / name)
            if kind == "cgroup2" and "memory" in (Path(where) / "cgroup.subtree_control").read_text().split():
                group = _made(Path(where) / name)
                (group / "cgroup.subtree_control").write_text("+memory")
                return group
        except OSError:
            continue  # no rights in this hierarchy: the caller says that limits are not enforced
    return None


def remove_memory_cgroup(group: Path, *, timeout_s: float = 5) -> None:
    """Remove the cgroup and those of its containers. The kernel needs a moment after the last process has gone."""
    end = time.monotonic() + timeout_s
    while group.is_dir():
        try:
            for child in group.iterdir():
                if child.is_dir():
                    child.rmdir()
            group.rmdir()
        except OSError as error:
            if time.monotonic() >= end:
                raise PermanentError(
                    f"cgroup {group} cannot be removed: {error.strerror}", cure="see its cgroup.procs"
                ) from error
            time.sleep(0.1)


def loop_devices(folder: Path) -> list[Path]:
    """Loop devices in front of files below the folder, and those in front of such devices; outermost first."""
    backing: dict[Path, str] = {}
    for entry in sorted(_SYS_BLOCK.glob("loop*/loop/backing_file")):
        try:
            backing[Path("/dev") / entry.parents[1].name] = entry.read_text().strip()
        except OSError:
            continue  # detached meanwhile
    found = [device for device, file in backing.items() if file.startswith(f"{folder}/")]
    for _ in backing:
        found = [d for d, file in backing.items() if file in map(str, found) and d not in found] + found
    return list(dict.fromkeys(found))


def detach_loop_devices(folder: Path) -> None:
    """Detach what a killed kubelet left behind."""
    for device in loop_devices(folder):
        done = subprocess.run(["losetup", "--detach", device], capture_output=True, text=True, timeout=30, check=False)
        if done.returncode != 0 and device in loop_devices(folder):
            raise PermanentError(f"{device} stays attached: {done.stderr.strip()}", cure=f"losetup --detach {device}")


def remove_tree(folder: Path) -> None:
    """Delete a folder, also files that belong to ids mapped from ours (pods wrote them)."""
    if not folder.exists():
        return
    command = ["rm", "-rf", "--one-file-system", "--", str(folder)]
    if not is_root() and has_subordinate_ids():
        command = ["unshare", "--user", "--map-root-user", "--map-auto", "--", *command]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode != 0:
        raise PermanentError(f"cannot delete {folder}: {done.stderr.strip()}")


def _own_path(controller: str) -> str:
    for line in _OWN_CGROUPS.read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            return path.rstrip("/")
    return ""


def _made(group: Path) -> Path:
    group.mkdir(exist_ok=True)
    return group
