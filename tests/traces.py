"""What a lab could leave on the machine after it was taken down."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from lab.cluster.machine import loop_devices, memory_cgroup_name
from lab.process import MARKER

_CGROUPS = Path("/sys/fs/cgroup")


def traces(folder: Path) -> dict[str, list[str]]:
    """Return processes, mounts, loop devices, cgroups, firewall rules of Kubernetes and its folder by kind.

    A process is the lab's if its command line or the mark that the lab's daemons hand on names the folder.
    """
    return {
        "processes": sorted(_processes(folder)),
        "mounts": [line for line in Path("/proc/self/mounts").read_text().splitlines() if str(folder) in line],
        "loop devices": [str(device) for device in loop_devices(folder)],
        "cgroups": [where for where, _, _ in os.walk(_CGROUPS) if where.endswith(memory_cgroup_name(folder))],
        "firewall rules": _kubernetes_rules(),
        "kubelet": [str(path) for path in (Path("/var/lib/kubelet"),) if path.exists()],
    }


def _processes(folder: Path) -> list[str]:
    name, mark = str(folder).encode(), f"{MARKER}={folder}/".encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        if int(entry.name) == os.getpid():
            continue
        try:
            argv = (entry / "cmdline").read_bytes()
            if name in argv or mark in (entry / "environ").read_bytes():
                command = argv.decode(errors="replace").replace("\0", " ")
                found.append(f"{entry.name} {command[:200]}")
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # ended meanwhile, or of somebody else
    return found


def _kubernetes_rules() -> list[str]:
    if os.geteuid() != 0 or shutil.which("iptables-save") is None:
        return []
    rules = subprocess.run(["iptables-save"], capture_output=True, text=True, check=True, timeout=300).stdout
    return [rule for rule in rules.splitlines() if "KUBE-" in rule]
