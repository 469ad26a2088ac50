"""A block device (a Block claim). What it held before is never trusted: zeros are made and read back."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from mover.buffers import PAGE_BYTES, block_buffer
from mover.geometry import Extent
from mover.targets.base import KEEP_SIZE, PUNCH_HOLE, Target
from mtv.model.errors import PermanentError

_PROBE_BYTES = 64 << 10
_PATTERN = 0xA5


class BlockTarget(Target):
    """A device at least as large as the disk; what lies behind the disk's end is left alone.

    The kernel makes zeros without sending them where the device says that it can (write zeroes; it refuses where that
    would be a mere discard, after which anything may be read). Whether the device keeps its word is tried out once,
    on the first area that must become zeros. A device that does not is written with zeros. `volume` is a name that no
    other device ever bears ("": nobody gave it one).
    """

    holes_are_zeros = False

    def __init__(self, path: Path, size_bytes: int, *, volume: str = "") -> None:
        super().__init__(path, size_bytes)
        self._volume = volume
        self.is_recognizable = bool(volume)
        self._keeps_word: bool | None = None
        try:
            self.device_bytes = os.lseek(self._buffered, 0, os.SEEK_END)
        except OSError as error:
            self.close()
            raise self._error(error, "size") from error
        if self.device_bytes < size_bytes:
            self.close()
            raise PermanentError(
                f"{path} has {self.device_bytes} bytes, the disk needs {size_bytes}",
                cure="make the claim larger",
                code="target-too-small",
            )

    @property
    def mark(self) -> str:
        """The volume's name. Nothing on a device itself tells it from another: its number changes from node to node,
        its serial number is the driver's invention, and all of its bytes are the disk's.
        """
        return f"volume {self._volume}" if self._volume else ""

    @property
    def is_intact(self) -> bool:
        """A device does not change its size."""
        return True

    @property
    def zeroes_quickly(self) -> bool:
        """Whether it was seen to make zeros that read back as such."""
        return bool(self._keeps_word)

    def prepare(self) -> None:
        """Nothing can be done beforehand: zeros are made block by block and journalled."""

    def areas_to_check(self, area: Extent) -> Iterator[Extent]:
        """All of it: a device does not say what it holds."""
        yield area

    def _zero_quickly(self, area: Extent) -> int:
        # Whole pages: the kernel wants whole sectors, of 512 or 4096 bytes. A tail is written.
        pages = Extent(area.offset, area.length // PAGE_BYTES * PAGE_BYTES)
        if not pages.length or self._keeps_word is False:
            return area.offset
        if self._keeps_word is None:
            self._keeps_word = self._try_out(pages)
        elif self._allocate(PUNCH_HOLE | KEEP_SIZE, pages):
            return area.offset
        return pages.end if self._keeps_word else area.offset

    def _try_out(self, pages: Extent) -> bool:
        """Zero the area after writing something else to both of its ends, and see what they then read as."""
        length = min(_PROBE_BYTES, pages.length)
        buffer = block_buffer()
        ends = (pages.offset, pages.end - length)
        for offset in ends:
            buffer[:length] = bytes([_PATTERN]) * length
            self.write(buffer[:length], offset)
        self.flush()
        self.before_write()  # a flush may take long, and the area may be a newer mover's by then
        if self._allocate(PUNCH_HOLE | KEEP_SIZE, pages):
            return False
        for offset in ends:
            self.read(buffer, offset, length)
            if any(buffer[:length]):
                return False
        return True
