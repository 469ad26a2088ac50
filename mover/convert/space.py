"""How large the overlays can become, and whether the work volume has room for that before anything starts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from mtv.model.conversion import ConvertDisk
from mtv.model.errors import PermanentError

_MIB = 1 << 20
_CLUSTER = 65536
_OTHER_DISKS_SHARE = 32
"""virt-v2v writes next to nothing to disks that hold no operating system: their mount records."""
_SCRATCH = 32 * _MIB
"""Log, domain XML, results and the appliance's sockets."""


def overlay_bytes(size_bytes: int) -> int:
    """The most that a qcow2 overlay of a disk takes: every cluster written, 10 bytes of tables for each, a header."""
    clusters = -(-size_bytes // _CLUSTER)
    return size_bytes + clusters * 10 + _MIB


def worst_case_bytes(disks: Sequence[ConvertDisk]) -> int:
    """What the overlays of a conversion can take together: all of the first (boot) disk, a share of the others."""
    sizes = [
        disk.size_bytes if index == 0 else disk.size_bytes // _OTHER_DISKS_SHARE for index, disk in enumerate(disks)
    ]
    return sum(overlay_bytes(size) for size in sizes)


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
