"""The launcher's container image: the machine's own system, with the launcher's files copied over it.

QEMU, firmware and Python are the machine's. The copies are made when a container starts, so a changed launcher is in
the next pod, without a new cluster.
"""

from __future__ import annotations

from pathlib import Path

from lab.cluster import images
from lab.state import State

IMAGE = images.LAUNCHER
_SOURCE = Path(__file__).with_name("launcher")
_COMMANDS = ("virt-launcher-monitor", "virt-tail")


def register_launcher_image(state: State, folder: Path) -> None:
    """Make the image known to the cluster's runtime; ``folder`` holds its description."""
    folder.mkdir(mode=0o755, exist_ok=True)
    copies = {"/usr/lib/lab-launcher/launcher": _SOURCE}
    copies |= {f"/usr/bin/{command}": _SOURCE / "bin" / command for command in _COMMANDS}
    images.write_manifest(folder, over_host=True, copy=copies)
    images.register(state, IMAGE, folder)
