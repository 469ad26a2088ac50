"""Whether KVM works here, found by booting a kernel on it: a device file proves nothing.

Nested and software KVM exist that create a machine, run its firmware, and then never get through a kernel's start.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from mover.convert import failures

PROBE_TIMEOUT_S = 20.0
"""Real KVM needs about one second to the panic that ends the trial; TCG four."""
KVM_DEVICE = Path("/dev/kvm")
CPU_INFO = Path("/proc/cpuinfo")
FIXED_ADDRESSES = "norandmaps"
"""Option of the appliance's kernel. QEMU keeps translated code by the address it runs at, and a conversion starts
thousands of small programs: where each lies elsewhere, each is translated anew (83 s without, 63 s with it, for a small
Debian). Nothing is lost by it, as the guest's own scripts run as root in the appliance anyway.
"""
PROOF = b"Kernel panic - not syncing: VFS"


def probe(environ: Mapping[str, str] = os.environ, *, qemu: str = "qemu-system-x86_64") -> tuple[str, str]:
    """Return ("kvm" | "tcg", one line that says why).

    Boots the conversion appliance's own kernel under KVM with the CPU model that libguestfs asks for, without a root
    disk: it must get as far as missing that disk within `PROBE_TIMEOUT_S`.
    """
    if not os.access(KVM_DEVICE, os.R_OK | os.W_OK):
        return "tcg", f"no usable {KVM_DEVICE}"
    if not _cpu_virtualizes():
        return "tcg", f"{KVM_DEVICE} is there, but this CPU has no virtualization (vmx or svm) for it"
    kernel = appliance_kernel(environ)
    if kernel is None:
        return "tcg", "no kernel to try KVM with"
    argv = [qemu, "-accel", "kvm", "-cpu", "host", "-machine", "q35", "-m", "256", "-nodefaults", "-display", "none"]
    argv += ["-no-reboot", "-serial", "stdio", "-kernel", str(kernel), "-append", "console=ttyS0 panic=-1"]
    with failures.starting(qemu):
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        out, err = process.communicate(timeout=PROBE_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return "tcg", f"a trial kernel did not start on KVM within {PROBE_TIMEOUT_S:.0f} s"
    if PROOF in out:
        return "kvm", "a trial kernel booted on it"
    reason = err.decode(errors="replace").strip().splitlines()
    return "tcg", f"a trial launch on KVM failed: {reason[-1] if reason else f'exit code {process.returncode}'}"


def _cpu_virtualizes() -> bool:
    """Whether an x86 CPU says that it has hardware for guests: without it KVM is an emulation slower than TCG.

    Such machines are spared the time of a trial that cannot end well. Other CPUs have no such flag: they are tried.
    """
    flags = [line for line in CPU_INFO.read_text().splitlines() if line.startswith("flags")]
    return not flags or any({"vmx", "svm"} & set(line.split()) for line in flags)


def environment(environ: Mapping[str, str], chosen: str, *, scratch: Path, memory_mb: int = 0) -> dict[str, str]:
    """The environment of a program that starts the appliance: `chosen` is kvm or tcg, `scratch` takes its files.

    virt-v2v gives its appliance twice the memory that libguestfs would; `memory_mb` (0: the default) is what it has.
    """
    env = dict(environ) | {"TMPDIR": str(scratch), "LIBGUESTFS_BACKEND": "direct"}
    if chosen == "tcg":
        env["LIBGUESTFS_BACKEND_SETTINGS"] = "force_tcg"
        env["LIBGUESTFS_APPEND"] = f"{environ.get('LIBGUESTFS_APPEND', '')} {FIXED_ADDRESSES}".strip()
    if memory_mb:
        env["LIBGUESTFS_MEMSIZE"] = str(memory_mb // 2)
    return env


def appliance_kernel(environ: Mapping[str, str]) -> Path | None:
    """Return the kernel that libguestfs boots: a fixed appliance's, supermin's, else the newest installed one."""
    if fixed := environ.get("LIBGUESTFS_PATH"):
        return Path(fixed) / "kernel"
    if chosen := environ.get("SUPERMIN_KERNEL"):
        return Path(chosen)
    installed = sorted(Path("/boot").glob("vmlinuz-*"), key=lambda path: path.stat().st_mtime)
    return installed[-1] if installed else None
