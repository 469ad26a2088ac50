"""Claims of a VM: how large, on which class, with which labels. Pure.

Sizes: a disk is aligned up to 1 MiB. A Block claim is that large; a Filesystem claim is ceil(aligned / (1 - overhead)),
because the filesystem's own structures take part of the volume and disk.img must still fit.
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from typing import Any, Literal

import msgspec

from mtv.kubevirt import labels
from mtv.model.overlay_space import overlays_bytes
from mtv.model.source import SourceDisk

MIB = 1024 * 1024
FILESYSTEM_OVERHEAD = Fraction(1, 10)
"""Share of a Filesystem volume that its filesystem may take for itself."""

_JOURNAL_BLOCK = 4 * MIB
_JOURNAL_RECORD = 64  # bytes per block: index, digest, checksum, rounded up
_WORK_MARGIN = 64 * MIB  # results, lock, commit record, and room for a rewritten journal

VolumeMode = Literal["Filesystem", "Block"]


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """A claim that a VM needs. `size_bytes` is what is requested of the cluster."""

    name: str
    storage_class: str
    size_bytes: int
    volume_mode: VolumeMode = "Filesystem"
    access_mode: str = "ReadWriteOnce"
    disk_id: str = ""
    index: int = -1
    identity: str = ""
    former_identities: tuple[str, ...] = ()


def align_up(size_bytes: int) -> int:
    """Return `size_bytes` rounded up to a whole MiB, at least one."""
    return max(1, -(-size_bytes // MIB)) * MIB


def claim_bytes(size_bytes: int, volume_mode: VolumeMode, *, overhead: Fraction = FILESYSTEM_OVERHEAD) -> int:
    """Return the size to request for a disk of `size_bytes`. `overhead` counts for Filesystem only, 0 <= overhead < 1.

    Computed in fractions: a float would be off by bytes on large disks.
    """
    if not 0 <= overhead < 1:
        raise ValueError(f"overhead {overhead} is not in [0, 1)")
    aligned = align_up(size_bytes)
    if volume_mode == "Block":
        return aligned
    return -(-aligned * overhead.denominator // (overhead.denominator - overhead.numerator))


def journal_bytes(disks: Iterable[SourceDisk]) -> int:
    """Return the most that the copy journals of `disks` take: one record per 4 MiB block, and one rewritten copy."""
    return sum(2 * _JOURNAL_RECORD * -(-disk.size_bytes // _JOURNAL_BLOCK) + MIB for disk in disks)


def work_bytes(disks: Iterable[SourceDisk], root_id: str, *, converts: bool) -> int:
    """Return what the work volume must hold, before the filesystem's own overhead.

    Journals of all disks and a margin; for a conversion also its overlays. Should an overlay run full all the same, the
    conversion fails before its commit and the verified copy is untouched.
    """
    disks = tuple(disks)
    total = journal_bytes(disks) + _WORK_MARGIN
    if converts:
        boot = [disk.size_bytes for disk in disks if disk.id == root_id]
        total += overlays_bytes(boot, [disk.size_bytes for disk in disks if disk.id != root_id])
    return total


def manifest(claim: Claim, *, namespace: str, object_labels: dict[str, str]) -> dict[str, Any]:
    """Return the PersistentVolumeClaim of `claim`."""
    annotations = {labels.DISK_SOURCE: claim.identity, labels.DISK_INDEX: str(claim.index)} if claim.disk_id else {}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": claim.name,
            "namespace": namespace,
            "labels": dict(object_labels),
            "annotations": annotations,
        },
        "spec": {
            "storageClassName": claim.storage_class,
            "accessModes": [claim.access_mode],
            "volumeMode": claim.volume_mode,
            "resources": {"requests": {"storage": str(claim.size_bytes)}},
        },
    }
