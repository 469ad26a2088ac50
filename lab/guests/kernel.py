"""Debian's cloud kernel, fetched as a package into the lab's cache and unpacked there; nothing is installed.

Guests are built from it, and virt-v2v's appliance runs on it (`SUPERMIN_KERNEL`, `SUPERMIN_MODULES`).
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from lab.cache import cached
from mtv.model.errors import PermanentError, TemporaryError

META_PACKAGE = "linux-image-cloud-amd64"


@dataclass(frozen=True)
class Kernel:
    """An unpacked kernel: its release name, the boot image, the folder of its modules and its configuration file."""

    version: str
    vmlinuz: Path
    modules: Path
    config: Path

    @property
    def root(self) -> Path:
        """Folder that holds `boot/` and `lib/modules/`."""
        return self.vmlinuz.parent.parent


@cache
def package_name() -> str:
    """Name of the kernel package that Debian's meta package stands for today.

    Asking takes more than a second, so the answer is kept until the package lists change.
    """
    lists = Path("/var/lib/apt/lists")
    age = str(lists.stat().st_mtime_ns) if lists.exists() else ""
    folder = cached("kernel-name", sources=[Path(__file__)], build=_write_package_name, extra_key=age)
    return (folder / "name").read_text()


def _write_package_name(out: Path) -> None:
    (out / "name").write_text(_ask_for_package_name())


def _ask_for_package_name() -> str:
    listing = _run(["apt-cache", "depends", "--important", META_PACKAGE], what="look up the kernel package")
    for line in listing.splitlines():
        word, _, name = line.strip().partition(": ")
        if word == "Depends" and name.startswith("linux-image-"):
            return name
    raise PermanentError(
        f"the package lists do not know what {META_PACKAGE} depends on",
        cure="run `apt-get update` on a Debian or Ubuntu machine",
        code="kernel-unknown",
    )


def kernel() -> Kernel:
    """The guest kernel from the cache, fetched at the first call (about 27 MB)."""
    package = package_name()
    folder = cached(package, sources=[Path(__file__)], build=lambda out: _unpack(package, out), extra_key=package)
    version = package.removeprefix("linux-image-")
    return Kernel(
        version=version,
        vmlinuz=folder / "boot" / f"vmlinuz-{version}",
        modules=folder / "lib" / "modules" / version,
        config=folder / "boot" / f"config-{version}",
    )


def _unpack(package: str, out: Path) -> None:
    """Download `package` and unpack it to `out`, with the index of module dependencies that installing would write."""
    out.mkdir(parents=True, exist_ok=True)
    # apt's own sandbox user cannot write to a private folder; as it only warns then, say that we know.
    _run(["apt-get", "download", "-o", "APT::Sandbox::User=root", package], what=f"fetch {package}", cwd=out)
    archives = sorted(out.glob("*.deb"))
    if len(archives) != 1:
        raise PermanentError(f"apt-get download left {len(archives)} archives of {package}, one was expected")
    _run(["dpkg-deb", "-x", str(archives[0]), str(out)], what=f"unpack {package}")
    archives[0].unlink()
    _run(["depmod", "-b", str(out), package.removeprefix("linux-image-")], what="index the kernel's modules")


def _run(argv: list[str], *, what: str, cwd: Path | None = None) -> str:
    try:
        done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, timeout=300, check=False)
    except FileNotFoundError as error:
        raise PermanentError(f"cannot {what}: {argv[0]} is missing", cure="the lab needs Debian or Ubuntu") from error
    except subprocess.TimeoutExpired as error:
        raise TemporaryError(f"cannot {what}: no answer in 300 s", cure="check the package mirror") from error
    if done.returncode:
        raise TemporaryError(f"cannot {what}: {done.stderr.strip()[-400:]}", cure="run `apt-get update` and try again")
    return done.stdout
