"""The image `localhost/mtv-mover:1`: the mover over this machine's tools (virt-v2v, nbdkit, QEMU, python3-libnbd).

The packages are installed once per version of their pins. The mover's own code is not in the image: the runtime copies
it in as it is when a container starts, so a changed mover is in the next pod.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from lab.appliance import appliance
from lab.cache import cached
from lab.cluster.images import write_manifest
from lab.state import REPO
from mtv.model.errors import PermanentError

SYSTEM_PYTHON = Path("/usr/bin/python3")
"""The one that Debian's python3-libnbd is built for."""
PACKAGES = ("blake3", "msgspec", "pyvmomi")
_HOME = "/usr/lib/mtv-mover"
_APPLIANCE = f"{_HOME}/appliance"
_ENVIRONMENT = {
    "PYTHONPATH": f"{_HOME}:{_HOME}/site-packages",
    "PYTHONDONTWRITEBYTECODE": "1",
    "HOME": "/tmp",  # noqa: S108  the pod's own, empty at its start
    "LIBGUESTFS_BACKEND": "direct",
    "LIBGUESTFS_PATH": _APPLIANCE,
}
_COMMAND = '#!/bin/sh\nexec /usr/bin/python3 -m mover "$@"\n'


def mover_image() -> Path:
    """The image's directory, built if this version is not in the cache."""
    guestfs, python, pins = appliance(), _system_python_version(), _pins()

    def build(folder: Path) -> None:
        _install(pins, python, site_packages(folder))
        command = folder / "usr" / "bin" / "mtv-mover"
        command.parent.mkdir(parents=True)
        command.write_text(_COMMAND)
        for directory in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
            directory.chmod(0o755)  # whatever the umask: pods run as any user
        command.chmod(0o755)
        write_manifest(folder, over_host=True, env=_ENVIRONMENT, copy=_code(), bind={_APPLIANCE: guestfs})

    inputs = [python, *pins, str(guestfs), str(REPO)]
    return cached("image-mover", sources=[Path(__file__)], build=build, extra_key="\n".join(inputs))


def site_packages(image: Path) -> Path:
    """Where an image's directory keeps the packages that the mover imports."""
    return image / _HOME[1:] / "site-packages"


def _code() -> dict[str, Path]:
    package = REPO / "plugins" / "mtv"
    return {
        f"{_HOME}/mover": REPO / "mover",
        f"{_HOME}/mtv/__init__.py": package / "__init__.py",
        f"{_HOME}/mtv/model": package / "model",
    }


def _system_python_version() -> str:
    """For example `3.11`."""
    ask = "import sys; print('%d.%d' % sys.version_info[:2])"
    try:
        done = subprocess.run([SYSTEM_PYTHON, "-c", ask], capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise PermanentError(f"{SYSTEM_PYTHON} does not run: {error}", cure="apt-get install python3") from error
    return done.stdout.strip()


def _pins() -> list[str]:
    """The mover's packages with the versions of requirements.txt."""
    text = (REPO / "requirements.txt").read_text()
    found = []
    for package in PACKAGES:
        pin = re.search(rf"^{package}==[^\s;]+", text, re.MULTILINE)
        if not pin:
            raise PermanentError(f"requirements.txt has no pin for {package}", cure="make pins")
        found.append(pin[0])
    return found


def _install(pins: list[str], python: str, target: Path) -> None:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", "--only-binary=:all:", "--no-deps"]
    command += ["--implementation=cp", f"--python-version={python}", f"--target={target}", *pins]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode != 0:
        raise PermanentError(
            f"the mover's packages cannot be installed for Python {python}: {done.stderr.strip()}",
            cure="make the Python package index reachable",
            code="LabNoPackages",
        )
    # Nobody may write there when it runs: what is not compiled now would be compiled at every start.
    subprocess.run([SYSTEM_PYTHON, "-m", "compileall", "-q", target], timeout=600, check=True)
