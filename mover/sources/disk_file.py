"""A disk in a local file or device, of the format that was said: nothing is guessed from what lies in it."""

from __future__ import annotations

from pathlib import Path

from mover.sources.base import RandomSource
from mover.sources.raw import RawSource
from mover.sources.vmdk import SparseVmdkSource
from mover.sources.vmdk_descriptor import is_descriptor, open_descriptor
from mover.sources.vmdk_header import is_sparse_vmdk
from mover.sources.window import Window, whole_file
from mtv.model.errors import PermanentError
from mtv.model.transfer import DiskFile


def open_disk_file(where: DiskFile) -> RandomSource:
    """The disk in the file. Raises `PermanentError` (source-format) for a format that is not read."""
    if where.format not in ("raw", "vmdk"):
        raise PermanentError(
            f"{where.path}: a disk of format {where.format!r} cannot be read",
            cure="convert it to raw with qemu-img, or serve it with qemu-nbd and give the NBD address",
            code="source-format",
        )
    window = whole_file(Path(where.path))
    try:
        return RawSource(window, checksum=where.checksum) if where.format == "raw" else _open_vmdk(window, where)
    except BaseException:
        window.close()
        raise


def _open_vmdk(window: Window, where: DiskFile) -> RandomSource:
    start = window.read(min(512, window.length), 0)
    if is_sparse_vmdk(start):
        return SparseVmdkSource(window, checksum=where.checksum)
    if not is_descriptor(start):
        raise PermanentError(
            f"{where.path} is not a VMDK",
            cure="if it is a flat extent (…-flat.vmdk), say that its format is raw",
            code="source-format",
        )
    if where.checksum:
        raise PermanentError(
            f"{where.path} is a descriptor: a checksum of it says nothing of the disk",
            cure="leave the checksum out",
            code="source-checksum-kind",
        )
    return open_descriptor(window)
