"""Debian's cloud kernel, fetched as a package into the lab's cache and unpacked there; nothing is installed.

Guests are built from it, and virt-v2v's appliance runs on it (`SUPERMIN_KERNEL`, `SUPERMIN_MODULES`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from lab.cache import cached
from lab.debs import run, unpack
from mtv.model.errors import PermanentError

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
    listing = run(["apt-cache", "depends", "--important", META_PACKAGE], what="look up the kernel package")
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
    unpack([package], out)
    run(["depmod", "-b", str(out), package.removeprefix("linux-image-")], what="index the kernel's modules")
