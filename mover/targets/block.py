"""A block device (a Block claim). What it held before is never trusted: zeros are made and read back."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from mover.geometry import Extent
from mover.targets.base import Target
from mtv.model.errors import PermanentError


class BlockTarget(Target):
    """A device at least as large as the disk; what lies behind the disk's end is left alone."""

    holes_are_zeros = False

    def __init__(self, path: Path, size_bytes: int) -> None:
        super().__init__(path, size_bytes)
        self.device_bytes = os.lseek(self._buffered, 0, os.SEEK_END)
        if self.device_bytes < size_bytes:
            self.close()
            raise PermanentError(
                f"{path} has {self.device_bytes} bytes, the disk needs {size_bytes}",
                cure="make the claim larger",
                code="target-too-small",
            )

    @property
    def mark(self) -> str:
        """A device has no mark of its own that outlives a node; its content is read back anyway."""
        return ""

    @property
    def is_intact(self) -> bool:
        """A device does not change its size."""
        return True

    def prepare(self) -> None:
        """Nothing can be done beforehand: zeros are made block by block and journalled."""

    def areas_to_check(self, area: Extent) -> Iterator[Extent]:
        """All of it: a device does not say what it holds."""
        yield area
