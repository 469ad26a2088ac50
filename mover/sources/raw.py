"""Raw bytes in a local file or device: an OVA's flat member, a disk image, a claim to be digested."""

from __future__ import annotations

from collections.abc import Callable

from mover.geometry import Extent
from mover.sources.base import RandomSource, Reader, ReadRequest
from mover.sources.window import Window


class RawSource(RandomSource):
    """A window read as it is. Holes of a sparse file are known; a device's are not."""

    connections = 2

    def __init__(self, window: Window, *, checksum: str = "") -> None:
        self.window = window
        self.files = window.files
        self.size_bytes = window.length
        self.has_own_checksum = bool(checksum)
        self._checksum = checksum

    def extents(self) -> list[Extent]:
        """What the file system says is data."""
        return self.window.data_extents()

    def open_reader(self) -> Reader:
        """A reader on the same descriptor: positioned reads do not disturb each other."""
        return _WindowReader(self.window)

    def check_own_checksum(self, should_stop: Callable[[], bool]) -> str:
        """The manifest's checksum over the member."""
        return self.window.check(self._checksum, should_stop)

    def forget(self) -> None:
        """Drop the file from the page cache."""
        self.window.forget()

    def close(self) -> None:
        """Close the file."""
        self.window.close()


class _WindowReader(Reader):
    def __init__(self, window: Window) -> None:
        self._window = window

    def begin(self, request: ReadRequest) -> None:
        """Positioned reads are made when they are asked for."""

    def complete(self, request: ReadRequest) -> None:
        for part in request.parts:
            self._window.read_into(request.place(part), part.offset)

    def close(self) -> None:
        """The descriptor belongs to the source."""
