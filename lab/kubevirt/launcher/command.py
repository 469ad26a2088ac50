"""The pure heart of the launcher: from a VMI to QEMU's command line."""

from __future__ import annotations

from typing import Any

from .disks import add_disks
from .draft import Draft, Host, Places
from .machine import add_firmware, add_machine
from .network import add_interfaces
from .peripherals import add_peripherals

BINARY = "qemu-system-x86_64"


def command(vmi: dict[str, Any], *, volume_modes: dict[str, str], places: Places, host: Host) -> Draft:
    """QEMU's command line for a VMI and what has to be prepared before it; nothing is read or written.

    ``volume_modes`` names the mode of the claim behind each volume (the VMI's status knows most of them). Raises
    Unsupported where the guest would not be the one of the spec, notes what is only a nicety.
    """
    draft = Draft(vmi, volume_modes, places, host)
    draft.add(BINARY, "-name", vmi["metadata"]["name"], "-nodefaults", "-no-user-config")
    add_machine(draft)
    add_firmware(draft)
    draft.add("-qmp", f"unix:{places.run}/qmp,server=on,wait=off")
    add_disks(draft)
    add_interfaces(draft)
    add_peripherals(draft)
    if draft.links_down:
        draft.add("-S")  # the cables are pulled by QMP before the first instruction runs
    return draft
