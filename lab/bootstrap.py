"""Makes a fresh machine ready: `python3 -m lab.bootstrap WHAT`. Needs nothing but Python and apt.

venv            packages that the Python requirements are built with, and .venv
demo            all of that, the lab's packages, and everything that it builds (the Go programs first, beside the rest)
test            all of that, and the packages that only the tests need
test-openstack  all of that, and OpenStack's services (0.4 GB, beside the rest as well)

A second run finds all of it done and takes about a second.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from lab import packages
from lab.cache import cache_folder
from lab.state import PYTHON_PATH, REPO

# Behind a proxy that looks into TLS only the machine itself knows whom to trust, and uv does not ask it.
ENVIRONMENT = {"UV_SYSTEM_CERTS": "1", **os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
VENV = REPO / ".venv"
VENV_PYTHON = VENV / "bin" / "python"
UV = "uv==0.13.9"
GO_BUILD_TIMEOUT_S = 45 * 60
INSTALL_TIMEOUT_S = 30 * 60

_PACKAGES: Mapping[str, Mapping[str, str]] = {
    "venv": packages.FOR_PYTHON,
    "demo": {**packages.FOR_PYTHON, **packages.FOR_LAB},
    "test": packages.ALL,
    "test-openstack": packages.ALL,
}


class Stop(Exception):
    """Something a person has to do first; the text says what."""


def main(argv: Sequence[str] | None = None) -> int:
    """Prepare the machine; 0 when it is ready, 1 with one line per problem when it is not."""
    parser = argparse.ArgumentParser(prog="python3 -m lab.bootstrap", description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=list(_PACKAGES))
    what = parser.parse_args(argv).what
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        _prepare(what)
    except KeyboardInterrupt:
        print("setup: interrupted; the next start goes on from here", file=sys.stderr)
        return 130
    except (Stop, subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        print(f"setup: {error}", file=sys.stderr)
        return 1
    return 0


def _prepare(what: str) -> None:
    started, lab = time.monotonic(), what != "venv"
    if packages.report_problems(lab=lab):
        raise Stop("the machine does not fit yet, see above")
    # The first packages are few: what makes .venv and builds the one requirement that has no wheel.
    _install_packages(packages.FOR_PYTHON, of=_PACKAGES[what])
    _make_venv()
    if lab and not any(cache_folder().glob("kubevirt-*")):
        _say(
            "the first run compiles Kubernetes and KubeVirt: 12 CPU-minutes where cores are quick; later runs find them"
        )
    builds = [_start_in_background("lab.binaries")] if lab else []
    services = None
    try:
        if lab:
            _install_packages(_PACKAGES[what], of=_PACKAGES[what])
        _install_requirements()
        if what == "test-openstack":
            services = _start_in_background("lab", "build", "openstack")
            builds.append(services)
        if lab:
            _run([VENV_PYTHON, "-m", "lab", "build"], timeout_s=GO_BUILD_TIMEOUT_S)
        if what == "test":  # before the tests begin: one of them looks whether anything calls outside of this machine
            _run([VENV_PYTHON, "-m", "lab.ovirt.imageio"], timeout_s=INSTALL_TIMEOUT_S)
        if services is not None and services.wait(timeout=INSTALL_TIMEOUT_S):
            raise Stop("OpenStack's services cannot be installed, see above")
    finally:
        for build in builds:
            _stop(build)
    if (took := time.monotonic() - started) > 5:
        _say(f"ready after {took:.0f} s")


def _install_packages(wanted: Mapping[str, str], *, of: Mapping[str, str]) -> None:
    """Install what is missing of `wanted`; who may not is told at once what is missing of all that will be needed."""
    missing = packages.missing(wanted)
    if not missing:
        return
    _say("Debian packages to install, and why:")
    width = max(map(len, missing))
    for name, reason in missing.items():
        _say(f"  {name:<{width}}  {reason}")
    if os.geteuid() == 0:
        sudo: list[str] = []
    elif (
        shutil.which("sudo")
        and subprocess.run(["sudo", "-n", "true"], capture_output=True, check=False).returncode == 0
    ):
        sudo = ["sudo", "-n"]
    else:
        raise Stop(f"run this once as root, then start again:\n  {packages.apt_line(of)}")
    env = ["env", "DEBIAN_FRONTEND=noninteractive"]
    quiet = ["-qq", "-o", "Dpkg::Use-Pty=0"]
    _run([*sudo, *env, "apt-get", "update", *quiet], timeout_s=INSTALL_TIMEOUT_S)
    install = ["apt-get", "install", "--yes", "--no-install-recommends", *quiet]
    _run([*sudo, *env, *install, *missing], timeout_s=INSTALL_TIMEOUT_S, quiet=True)


def _make_venv() -> None:
    if not VENV_PYTHON.exists():
        _say(f"making {VENV.name} with Python {sys.version.split()[0]}")
        _run([sys.executable, "-m", "venv", VENV], timeout_s=300)


def _install_requirements() -> None:
    """Install the pinned requirements, unless this very set is in already."""
    pins = (REPO / "requirements.txt").read_bytes() + (REPO / "pyproject.toml").read_bytes()
    stamp, wanted = VENV / ".requirements", hashlib.sha256(pins).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        return
    _say("installing the pinned Python requirements (Airflow, Great Expectations, provider SDKs)")
    _run([VENV_PYTHON, "-m", "pip", "install", "--quiet", UV], timeout_s=INSTALL_TIMEOUT_S)
    install: list[str | Path] = [VENV_PYTHON, "-m", "uv", "pip", "install", "--quiet", "--python", VENV_PYTHON]
    _run([*install, "-r", REPO / "requirements.txt"], timeout_s=INSTALL_TIMEOUT_S)
    _run([*install, "--no-deps", "-e", REPO], timeout_s=INSTALL_TIMEOUT_S)
    stamp.write_text(wanted)


def _start_in_background(*module: str) -> subprocess.Popen[bytes]:
    """Start something slow that needs nothing of what is installed meanwhile.

    The Go programs need Go and the module proxy only; OpenStack's services have an environment of their own.
    """
    env = {**ENVIRONMENT, "PYTHONPATH": PYTHON_PATH}
    command = [str(VENV_PYTHON), "-m", *module]
    return subprocess.Popen(command, env=env, cwd=REPO, stdin=subprocess.DEVNULL, start_new_session=True)


def _stop(build: subprocess.Popen[bytes]) -> None:
    """End it with the compilers that it started."""
    if build.poll() is None:
        os.killpg(build.pid, signal.SIGTERM)
        build.wait(timeout=30)


def _run(command: Sequence[str | Path], *, timeout_s: float, quiet: bool = False) -> None:
    """Run a command; when it fails, its own last words are in the message."""
    argv = [str(word) for word in command]
    done = subprocess.run(
        argv,
        cwd=REPO,
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if quiet else None,
        stderr=subprocess.STDOUT if quiet else None,
        timeout=timeout_s,
        check=False,
    )
    if done.returncode:
        said = (done.stdout or b"").decode(errors="replace").strip()[-2000:]
        raise Stop(f"`{' '.join(argv)}` failed with exit code {done.returncode}\n{said}".rstrip())


def _say(text: str) -> None:
    print(f"setup: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
