"""The launcher's container image: a folder that is laid over the machine's own system folders.

QEMU, firmware and Python come from the machine; only the launcher itself is in the folder. It is rewritten in place, so
that a changed launcher is in the next pod without a new cluster.
"""

from __future__ import annotations

import filecmp
import os
from pathlib import Path

IMAGE = "localhost/virt-launcher:1"
_SOURCE = Path(__file__).with_name("launcher")
_MODULES = Path("usr/lib/lab-launcher/launcher")
_COMMANDS = Path("usr/bin")


def write_launcher_image(folder: Path) -> Path:
    """Fill or refresh ``folder`` and give it back. Files that are the same already are left alone."""
    wanted = {_MODULES / module.name: module for module in sorted(_SOURCE.glob("*.py"))}
    wanted |= {_COMMANDS / script.name: script for script in sorted((_SOURCE / "bin").iterdir())}
    for relative, source in wanted.items():
        _put(source, folder / relative, mode=0o755 if relative.parent == _COMMANDS else 0o644)
    for stale in (folder / _MODULES).glob("*.py"):
        if stale.relative_to(folder) not in wanted:
            stale.unlink()
    return folder


def _put(source: Path, target: Path, *, mode: int) -> None:
    if target.exists() and filecmp.cmp(source, target, shallow=False) and target.stat().st_mode & 0o777 == mode:
        return
    _make_readable_folder(target.parent)
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    partial.write_bytes(source.read_bytes())
    partial.chmod(mode)
    partial.replace(target)


def _make_readable_folder(folder: Path) -> None:
    """Folders that the pod's user may enter, whatever the umask is."""
    if not folder.is_dir():
        _make_readable_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        folder.chmod(0o755)
