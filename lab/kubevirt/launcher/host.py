"""What the machine below the pod can really do: tried, not guessed."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from .command import BINARY
from .qmp import QmpError, execute

_TRIAL_S = 1.0


def kvm_works(device: Path = Path("/dev/kvm")) -> tuple[bool, str]:
    """Does a trial guest run under KVM? (answer, why not). The device may exist and yet not work."""
    if not device.exists():
        return False, f"{device} is not in this pod"
    with tempfile.TemporaryDirectory() as folder:
        control = Path(folder) / "qmp"
        trial = subprocess.Popen(
            [BINARY, "-accel", "kvm", "-machine", "q35", "-cpu", "host", "-m", "64M", "-nodefaults", "-display", "none",
             "-qmp", f"unix:{control},server=on,wait=off"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            trial.wait(_TRIAL_S)
        except subprocess.TimeoutExpired:
            try:
                status = execute(control, ("query-status", {}))[0]["status"]
            except QmpError as why:
                return False, str(why)
            return status == "running", f"the trial guest is {status}"
        finally:
            trial.kill()
            _, words = trial.communicate(timeout=10)
        return False, words.strip().splitlines()[-1] if words.strip() else f"QEMU ended with {trial.returncode}"


def has_tpm_emulator() -> bool:
    """Is swtpm installed?"""
    return shutil.which("swtpm") is not None


def supports_direct_io(path: Path) -> bool:
    """Can the file be opened with O_DIRECT? Some file systems (tmpfs) refuse. False as well if it cannot be opened."""
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_DIRECT))
    except OSError as why:
        if why.errno not in (errno.EINVAL, errno.ENOENT, errno.EACCES, errno.ENXIO, errno.ENOMEDIUM):
            raise
        return False
    return True


def wait_for_file(path: Path, timeout_s: float) -> bool:
    """Wait until the path exists; False if it does not in time."""
    end = time.monotonic() + timeout_s
    while not path.exists():
        if time.monotonic() >= end:
            return False
        time.sleep(0.02)
    return True
