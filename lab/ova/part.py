"""The lab's OVA folder as a part."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from lab.cache import cached
from lab.guests.image import guest_image
from lab.guests.spec import GuestSpec
from lab.ova.descriptor import OvfMachine
from lab.ova.package import write_ova
from lab.parts import Part
from lab.state import State

GUEST = GuestSpec(hostname="app-1", root_mb=192, payload_mb=16, address="10.0.2.17/24")


def app_ova() -> Path:
    """`app-1.ova` from the cache."""
    image = guest_image(GUEST)
    here = Path(__file__).parent
    sources = [here / "package.py", here / "descriptor.py"]

    def build(folder: Path) -> None:
        write_ova(folder / "app-1.ova", OvfMachine("app-1"), image.disks)

    # The image's folder carries the hash of all that it was made from.
    return cached("ova-app-1", sources=sources, build=build, extra_key=image.root.parent.name) / "app-1.ova"


class OvaPart(Part):
    """A folder with one exported VM."""

    name = "ova"
    real = "an OVA with manifest and streamOptimized disk; its guest boots on VMware's hardware only"
    stand_in = "it was packed here, not exported by VMware's tool"

    def build(self) -> None:
        """Make the guest and pack it."""
        app_ova()

    def start(self, state: State) -> dict[str, Any]:
        """Lay a copy of the OVA into the folder."""
        folder = state.folder(self.name) / "ovas"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        shutil.copyfile(app_ova(), folder / "app-1.ova")
        payload = dict(guest_image(GUEST).payload)
        return {"path": str(folder), "guests": {"app-1": {"file": "app-1.ova", "payload": payload}}}

    def healthy(self, state: State) -> bool:
        """Is the OVA there?"""
        endpoints = state.endpoints(self.name)
        return bool(endpoints) and (Path(endpoints["path"]) / "app-1.ova").is_file()

    def stop(self, state: State) -> None:
        """Remove the folder."""
        shutil.rmtree(state.folder(self.name) / "ovas", ignore_errors=True)
