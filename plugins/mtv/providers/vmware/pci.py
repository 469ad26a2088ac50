"""PCI addresses of devices as a guest sees them, from the slot numbers that vSphere keeps.

A slot number holds the device in bits 0 to 4, the bridge in bits 5 to 9 (0: none, n: `pciBridge<n-1>`) and the bridge's
function in bits 10 to 12. Bridges get buses in the order of their own devices, from 2 on, one for each function.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

_BRIDGE = re.compile(r"pcibridge(\d+)\.pcislotnumber")
_FIRST_BUS = 2


def bridges(extra_config: Mapping[str, str]) -> list[dict[str, int]]:
    """Return the bridges of a VM's extra configuration (keys in lower case), those that have a slot."""
    found = []
    for key, value in extra_config.items():
        match = _BRIDGE.fullmatch(key)
        slot = _whole(value)
        if match and slot is not None and slot >= 0:
            functions = _whole(extra_config.get(f"pcibridge{match[1]}.functions", "1"))
            found.append({"number": int(match[1]), "slotNumber": slot, "functions": max(functions or 1, 1)})
    return sorted(found, key=lambda bridge: bridge["number"])


def address(slot: int | None, bridges: Iterable[Mapping[str, Any]]) -> str:
    """Return `0000:BB:DD.0` of a slot number; "" without one, or when its bridge is not known."""
    if slot is None or slot < 0:
        return ""
    device, bridge, function = slot & 31, slot >> 5 & 31, slot >> 10 & 7
    bus = 0
    if bridge:
        first = _first_buses(bridges).get(bridge - 1)
        if first is None:
            return ""
        bus = first + function
    return f"0000:{bus:02x}:{device:02x}.0"


def _first_buses(bridges: Iterable[Mapping[str, Any]]) -> dict[int, int]:
    buses: dict[int, int] = {}
    bus = _FIRST_BUS
    for one in sorted(bridges, key=lambda bridge: (bridge["slotNumber"] & 31, bridge["number"])):
        buses[one["number"]] = bus
        bus += one["functions"]
    return buses


def _whole(text: str) -> int | None:
    return int(text) if re.fullmatch(r"-?\d+", text) else None
