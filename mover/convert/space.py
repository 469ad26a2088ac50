"""How large the overlays can become, and whether the work volume has room for that before anything starts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from mtv.model.conversion import ConvertDisk
from mtv.model.errors import PermanentError
from mtv.model.overlay_space import overlays_bytes

_MIB = 1 << 20
_SCRATCH = 32 * _MIB
"""Log, domain XML, results and the appliance's sockets."""


def worst_case_bytes(disks: Sequence[ConvertDisk]) -> int:
    """What the overlays of a conversion can take together; the first disk is the one that boots."""
    sizes = [disk.size_bytes for disk in disks]
    return overlays_bytes(sizes[:1], sizes[1:])


def require_room(work: Path, disks: Sequence[ConvertDisk]) -> None:
    """Return if the overlays fit; else raise `PermanentError` (code work-volume-small) with the numbers."""
    volume = os.statvfs(work)
    free = volume.f_bavail * volume.f_frsize
    needed = worst_case_bytes(disks) + _SCRATCH
    if free < needed:
        raise PermanentError(
            f"the work volume has {_mib(free)} free, the conversion can need {_mib(needed)}",
            cure=f"give the work claim {_mib(needed - free)} more and run the VM again",
            code="work-volume-small",
        )


def _mib(size: int) -> str:
    return f"{-(-size // _MIB)} MiB"
