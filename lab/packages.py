"""Is this machine fit for the lab, and which Debian packages are missing?

Needs nothing but Python itself: it runs before there is a virtual environment.
"""

from __future__ import annotations

import getpass
import importlib.util
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

FOR_PYTHON: Mapping[str, str] = {
    "python3-venv": "makes the virtual environment",
    "python3-dev": "oVirt's SDK is built from source",
    "build-essential": "oVirt's SDK is built from source",
    "libxml2-dev": "oVirt's SDK is built from source",
}
"""What the Python requirements need: name to reason."""

FOR_LAB: Mapping[str, str] = {
    "bubblewrap": "containers of the lab's cluster",
    "uidmap": "pods with a user of their own when the lab runs without root",
    "busybox-static": "the smallest container image, and the userland of the demo's guests",
    "cpio": "initramfs of the demo's guests",
    "e2fsprogs": "file systems of the demo's guests",
    "fdisk": "partitions of the demo's guests",
    "grub-common": "boot loader of the demo's guests",
    "grub-pc-bin": "boot loader of the demo's guests",
    "kmod": "kernel modules of the demo's guests",
    "qemu-system-x86": "runs source and migrated guests, and virt-v2v's appliance",
    "qemu-utils": "disk images: qemu-img, qemu-io",
    "ovmf": "firmware of UEFI guests",
    "virt-v2v": "converts guests to KubeVirt's drivers",
    "libguestfs-xfs": "guests with XFS",
    "python3-guestfs": "looks into converted disks",
    "nbdkit": "serves source disks to the mover",
    "libnbd-bin": "copies and looks at disks over NBD",
    "python3-libnbd": "the mover's NBD client",
}
"""What the lab and the conversion need: name to reason."""

FOR_TESTS: Mapping[str, str] = {
    "ntfs-3g": "makes NTFS volumes like those of Windows guests",
    "cryptsetup-bin": "encrypts the root of a guest",
    "genisoimage": "makes ISO images like virtio-win",
    "postgresql": "databases of the lab's OpenStack, and of Airflow and the store in one lane of the tests",
    "openssh-client": "keys for the tests' ssh server, and libraries that it needs",
    "libnsl2": "the tests' ssh server needs it",
    "openssl": "passwords for the tests' ssh server",
}
"""What only the tests need: name to reason."""

ALL: Mapping[str, str] = {**FOR_PYTHON, **FOR_LAB, **FOR_TESTS}

DISK_GB = 12
MEMORY_GB = 8
PORTS = 16
_GB = 10**9
_TRIED = {("debian", "12"), ("debian", "13")}
_PYTHONS = ((3, 11), (3, 13))
_REPO = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Problem:
    """Why the lab may not run here: one line, what to do, and whether it is hopeless or only a warning."""

    message: str
    cure: str
    fatal: bool = True

    def __str__(self) -> str:
        return f"{'problem' if self.fatal else 'warning'}: {self.message} — {self.cure}"


def missing(wanted: Mapping[str, str] = ALL) -> dict[str, str]:
    """Those of the packages that are not installed, with their reasons."""
    done = subprocess.run(
        ["dpkg-query", "--show", "--showformat=${Package} ${db:Status-Status}\n", *wanted],
        capture_output=True,
        text=True,
        check=False,  # it fails when it does not know one of them
        timeout=60,
    )
    installed = {line.split()[0] for line in done.stdout.splitlines() if line.endswith(" installed")}
    return {name: reason for name, reason in wanted.items() if name not in installed}


def apt_line(wanted: Mapping[str, str] = ALL) -> str:
    """The command that installs what is missing of these packages; a comment if nothing is."""
    names = missing(wanted)
    if not names:
        return "# nothing is missing"
    sudo = "sudo " if os.geteuid() != 0 and shutil.which("sudo") else ""
    return f"{sudo}apt-get update && {sudo}apt-get install --no-install-recommends {' '.join(names)}"


def problems(*, lab: bool = True) -> list[Problem]:
    """Everything about the machine itself that is in the way of the lab, or of the virtual environment alone; missing
    packages are another matter.
    """
    found = _python()
    if found:
        return found  # the other questions need a Python that we know
    for check in (_platform, _disk, _memory, _ports, _namespaces, _overlay, _loop) if lab else (_platform,):
        found += check()
    return found


def report_problems(*, lab: bool = True) -> int:
    """Print the problems, one line each; 1 if one of them is not just a warning."""
    found = problems(lab=lab)
    for problem in found:
        print(f"lab: {problem}", file=sys.stderr)
    return int(any(problem.fatal for problem in found))


def report_missing() -> int:
    """Print the missing packages with their reasons and the command that installs them; 1 if there are any."""
    names = missing()
    for name, reason in names.items():
        print(f"lab: package {name} is missing: {reason}", file=sys.stderr)
    if names:
        print(f"lab: {apt_line()}", file=sys.stderr)
    return int(bool(names))


def _platform() -> list[Problem]:
    if platform.machine() != "x86_64":
        return [Problem(f"this is a {platform.machine()} machine", "the lab needs x86_64")]
    if shutil.which("dpkg-query") is None:
        return [Problem("this is not Debian", "use Debian 12 or 13, in a virtual machine if need be")]
    release = platform.freedesktop_os_release()
    if (release.get("ID"), release.get("VERSION_ID")) in _TRIED:
        return []
    name = release.get("PRETTY_NAME", "this system")
    return [Problem(f"{name} is untried", "Debian 12 and 13 are known to work", fatal=False)]


def _python() -> list[Problem]:
    lowest, highest = _PYTHONS
    if not lowest <= sys.version_info[:2] <= highest:
        return [
            Problem(f"this is Python {platform.python_version()}", "use 3.11, 3.12 or 3.13: make PYTHON=python3.12 …")
        ]
    if importlib.util.find_spec("ensurepip") is None and "python3-venv" not in missing(FOR_PYTHON):
        return [
            Problem(f"{sys.executable} has no ensurepip, so no venv", "use another one: make PYTHON=/usr/bin/python3 …")
        ]
    return []


def _disk() -> list[Problem]:
    cache = Path(os.environ.get("MTV_CACHE") or Path.home() / ".cache" / "mtv")
    found = []
    devices = set()
    for what, folder in (("the repository", _REPO), ("the lab's cache", cache)):
        there = next(path for path in (folder, *folder.parents) if path.exists())
        if (device := there.stat().st_dev) in devices:
            continue
        devices.add(device)
        if (free := shutil.disk_usage(there).free) < DISK_GB * _GB:
            found.append(
                Problem(
                    f"only {free / _GB:.1f} GB free for {what} in {there}",
                    f"{DISK_GB} GB are needed; MTV_CACHE can name another folder for the cache",
                    fatal=free < DISK_GB * _GB / 2,
                )
            )
    return found


def _memory() -> list[Problem]:
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if total >= MEMORY_GB * _GB * 0.9:  # the kernel keeps some of it
        return []
    return [
        Problem(f"only {total / _GB:.1f} GB of memory", f"{MEMORY_GB} GB are needed", fatal=total < MEMORY_GB * _GB / 2)
    ]


def _ports() -> list[Problem]:
    """Every part listens on ports of loopback that are free at that moment: there must be some that answer."""
    with ExitStack() as opened:
        try:
            for _ in range(PORTS):
                listener = opened.enter_context(socket.create_server(("127.0.0.1", 0)))
            opened.enter_context(socket.create_connection(listener.getsockname(), timeout=5))
        except OSError as error:
            return [
                Problem(
                    f"{PORTS} TCP ports of 127.0.0.1 cannot be used: {error.strerror or error}",
                    "ip link set lo up; more ports by sysctl net.ipv4.ip_local_port_range",
                )
            ]
    return []


def _namespaces() -> list[Problem]:
    if os.geteuid() == 0:
        if _works(["unshare", "--mount", "--pid", "--fork", "true"]):
            return []
        return [
            Problem(
                "root may not make namespaces here (a container without rights?)",
                "run it with --privileged, or in a VM",
            )
        ]
    if _works(["unshare", "--user", "--map-root-user", "--mount", "true"]):
        return _subordinate_ids()
    if _setting("kernel/apparmor_restrict_unprivileged_userns") == "1":
        cure = "sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0"
    elif _setting("kernel/unprivileged_userns_clone") == "0":
        cure = "sudo sysctl kernel.unprivileged_userns_clone=1"
    else:
        cure = "sudo sysctl user.max_user_namespaces=10000, or run the lab as root"
    return [Problem("an ordinary user may not make user namespaces here", cure)]


def _subordinate_ids() -> list[Problem]:
    if "uidmap" in missing(FOR_LAB) or _works(["unshare", "--user", "--map-root-user", "--map-auto", "true"]):
        return []
    cure = f"sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {getpass.getuser()}"
    return [Problem("this user has no subordinate ids, so pods cannot have users of their own", cure)]


def _overlay() -> list[Problem]:
    """Try it: a module may be missing, and before Linux 5.11 only root could."""
    script = """cd "$0" && mount -t tmpfs lab . && cd "$0" && mkdir lower upper work merged &&
        mount -t overlay -o userxattr,lowerdir=lower,upperdir=upper,workdir=work lab merged"""
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    with tempfile.TemporaryDirectory() as folder:
        if _works(["unshare", *user, "--mount", "sh", "-c", script, folder]):
            return []
    return [
        Problem(
            f"overlay file systems do not work here (Linux {platform.release()})",
            "Linux 5.11 or newer with the module `overlay`",
        )
    ]


def _loop() -> list[Problem]:
    if os.geteuid() != 0 or Path("/dev/loop-control").exists():
        return []
    return [Problem("no loop devices, so no block volumes in the lab", "modprobe loop", fatal=False)]


def _works(command: list[str]) -> bool:
    return subprocess.run(command, capture_output=True, check=False, timeout=60).returncode == 0


def _setting(name: str) -> str:
    try:
        return (Path("/proc/sys") / name).read_text().strip()
    except OSError:
        return ""  # this kernel does not have it
