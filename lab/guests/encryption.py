"""A root file system inside LUKS: encrypted in user space, opened at boot by what the guest's initramfs carries.

Real: LUKS2 and dm-crypt, written and opened by cryptsetup. Less than real: the key is derived 1000 times instead of for
two seconds, so that an emulated CPU is not kept busy, and it lies in the initramfs, so that nobody has to type it.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from lab.guests.spec import GuestSpec
from lab.guests.tools import run
from mtv.model.errors import PermanentError

MIB = 1 << 20
HEADER_MIB = 16
"""What LUKS2 takes of its partition before the file system begins."""
DRIVERS = ("dm_crypt", "ecb", "xts")
"""Modules that open the root; AES itself is built into Debian's kernel."""
KEY_FILE = "etc/cryptsetup-keys.d/root.key"
_LOADER = "lib64/ld-linux-x86-64.so.2"
_LIBRARIES = "lib/x86_64-linux-gnu"


def prepare_tree(root: Path, spec: GuestSpec) -> None:
    """Put into the guest's root what opens it: cryptsetup with its libraries, the key, the table that names it."""
    program = _cryptsetup()
    (root / "usr/sbin").mkdir(parents=True, exist_ok=True)
    (root / "usr/sbin/cryptsetup").unlink(missing_ok=True)
    shutil.copy2(program, root / "usr/sbin/cryptsetup")
    for folder in (_LIBRARIES, "lib64", str(Path(KEY_FILE).parent)):
        (root / folder).mkdir(parents=True, exist_ok=True)
    shutil.copy2(Path("/") / _LOADER, root / _LOADER)
    for line in run(["ldd", program], what="list cryptsetup's libraries").splitlines():
        _, arrow, found = line.partition(" => ")
        if arrow:
            library = Path(found.split(" (")[0])
            shutil.copy2(library, root / _LIBRARIES / library.name)
    (root / KEY_FILE).write_text(spec.luks_key)
    (root / KEY_FILE).chmod(0o600)
    (root / "etc/crypttab").write_text(f"root UUID={spec.luks_uuid} /{KEY_FILE} luks\n")


def encrypt(filesystem: Path, spec: GuestSpec) -> None:
    """Encrypt the file `filesystem` in place; it grows by `HEADER_MIB`. Needs neither root nor a device mapper."""
    size = filesystem.stat().st_size
    key = filesystem.with_suffix(".key")
    key.write_text(spec.luks_key)
    # cryptsetup moves the data out of the header's way and wants twice the header's room while it does.
    with filesystem.open("r+b") as file:
        file.truncate(size + 2 * HEADER_MIB * MIB)
    argv = [_cryptsetup(), "reencrypt", "--batch-mode", "--disable-locks", "--encrypt", "--type", "luks2"]
    argv += ["--reduce-device-size", f"{2 * HEADER_MIB}M", "--uuid", spec.luks_uuid, "--key-file", str(key)]
    argv += ["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", str(filesystem)]
    # It keeps a file of its own in the working folder meanwhile.
    run(argv, what="encrypt the guest's root file system", cwd=filesystem.parent)
    with filesystem.open("r+b") as file:
        file.truncate(size + HEADER_MIB * MIB)
    key.unlink()


def _cryptsetup() -> str:
    """Path of the program, which is in no ordinary user's PATH."""
    if found := shutil.which("cryptsetup", path="/usr/sbin:/sbin"):
        return found
    raise PermanentError("cryptsetup is missing", cure="apt-get install cryptsetup-bin")
