"""What the overlays of a conversion can take: the factory sizes the work claim by it, the mover asks for the room."""

from __future__ import annotations

from collections.abc import Iterable

_MIB = 1 << 20
_CLUSTER = 65536
_OTHER_DISKS_SHARE = 32
_OTHER_DISKS_LEAST = 1 << 30
"""virt-v2v writes next to nothing to disks that hold no operating system: their mount records. But the disk that boots
does not tell for sure where the root is (another disk, a volume group over several). virt-v2v itself wants as much free
space where it runs."""


def overlay_bytes(size_bytes: int) -> int:
    """Return the most that a qcow2 overlay takes: every cluster written, 10 bytes of tables for each, a header."""
    clusters = -(-size_bytes // _CLUSTER)
    return size_bytes + clusters * 10 + _MIB


def overlays_bytes(boot_sizes: Iterable[int], other_sizes: Iterable[int]) -> int:
    """Return what the overlays can take together, from the disks' sizes in bytes.

    All of the disk that boots is counted; of each other one a share, but enough for a system on it.
    """
    written = (min(size, max(size // _OTHER_DISKS_SHARE, _OTHER_DISKS_LEAST)) for size in other_sizes)
    return sum(overlay_bytes(size) for size in (*boot_sizes, *written))
