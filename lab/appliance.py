"""The libguestfs appliance that virt-v2v boots to convert a guest: built once, so that no conversion builds its own.

supermin wants a kernel below /lib/modules; ours is unpacked in the cache, so it is laid over /usr/lib in a mount
namespace of the build alone. The machine's own folders stay as they are.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from lab.cache import cached
from lab.guests.kernel import kernel
from mtv.model.errors import PermanentError

_PACKAGES = ("libguestfs0", "supermin", "libguestfs-xfs")
_PARTS_FOLDER = Path("/usr/lib/x86_64-linux-gnu/guestfs/supermin.d")
_TIMEOUT_S = 600
_BUILD = """
set -eu
mount -t overlay overlay -o "lowerdir=$1/lib:/usr/lib" /usr/lib
export SUPERMIN_KERNEL="$2" SUPERMIN_MODULES="$3"
exec supermin --build -f ext2 --host-cpu x86_64 --copy-kernel -o "$4" "$5"
"""


def appliance() -> Path:
    """Folder for `LIBGUESTFS_PATH` (kernel, initrd, root), built at the first call (about 5 s, 370 MB sparse).

    Raises `PermanentError` with supermin's words if it cannot be built.
    """
    boot = kernel()
    key = f"{boot.version}\n{_installed_versions()}"

    def build(folder: Path) -> None:
        as_root = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
        script = ["sh", "-c", _BUILD, "sh"]  # paths are positional parameters: never part of the script's text
        paths = [str(boot.root), str(boot.vmlinuz), str(boot.modules), str(folder), str(_PARTS_FOLDER)]
        done = subprocess.run(
            ["unshare", *as_root, "--mount", *script, *paths],
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
            # Without root only one owner exists here, and tar must not insist on the package's.
            env={**os.environ, "TAR_OPTIONS": "--no-same-owner"},
        )
        if done.returncode:
            raise PermanentError(
                f"the conversion appliance cannot be built: {done.stderr.strip()[-600:]}",
                cure="install virt-v2v and libguestfs-xfs (`python3 -m lab apt-line`)",
                code="LabAppliance",
            )
        (folder / "README.fixed").write_text("A fixed libguestfs appliance.\n")

    return cached("appliance", sources=[Path(__file__)], build=build, extra_key=key)


def _installed_versions() -> str:
    """Versions of what goes into the appliance; a package that is not installed has none."""
    query = ["dpkg-query", "--show", "--showformat=${Package}=${Version}\n", *_PACKAGES]
    return subprocess.run(query, capture_output=True, text=True, timeout=60, check=False).stdout
