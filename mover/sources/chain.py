"""A file that was cut into pieces (an OVF's `chunkSize`), read as if it were whole."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from itertools import accumulate
from pathlib import Path

from mover.geometry import Extent, merged, spans
from mover.sources.window import Window
from mtv.model.transfer import FileRange


class ChainedWindow(Window):
    """The pieces, one behind the other. Messages name the first one's file unless a piece itself is at fault."""

    def __init__(self, pieces: Sequence[FileRange]) -> None:
        self.path = Path(pieces[0].path)
        self.files = tuple(Path(piece.path) for piece in pieces)
        self.offset = 0
        self._checksums = [piece.checksum for piece in pieces]
        self._pieces: list[Window] = []
        try:
            for piece in pieces:
                self._pieces.append(Window.of(piece))
        except BaseException:
            self.close()
            raise
        self._ends = list(accumulate(piece.length for piece in pieces))
        self.length = self._ends[-1]

    @property
    def has_checksums(self) -> bool:
        """Whether every piece has one; a manifest that leaves out a piece proves nothing of the whole."""
        return all(self._checksums)

    def data_extents(self) -> list[Extent]:
        """What the file system says is data."""
        starts = [0, *self._ends]
        found = (
            Extent(start + extent.offset, extent.length)
            for start, piece in zip(starts, self._pieces, strict=False)
            for extent in piece.data_extents()
        )
        return merged(found, self.length)

    def read(self, length: int, offset: int) -> bytes:
        """`length` bytes at `offset`, over the borders of pieces."""
        self._within(length, offset)
        return b"".join(
            self._pieces[index].read(inside.length, inside.offset)
            for index, inside, _ in spans(self._ends, Extent(offset, length))
        )

    def read_into(self, view: memoryview, offset: int) -> None:
        """Fill `view` from `offset`, over the borders of pieces."""
        self._within(len(view), offset)
        for index, inside, at in spans(self._ends, Extent(offset, len(view))):
            self._pieces[index].read_into(view[at : at + inside.length], inside.offset)

    def check(self, checksum: str, should_stop: Callable[[], bool]) -> str:  # noqa: ARG002 - each piece has its own
        """Compare every piece with its checksum; returns one that stands for them all, "" when told to stop."""
        found = hashlib.sha256()
        for piece, wanted in zip(self._pieces, self._checksums, strict=True):
            agreed = piece.check(wanted, should_stop)
            if not agreed:
                return ""
            found.update(agreed.encode() + b"\n")
        return f"sha256-of-parts:{found.hexdigest()}"

    def forget(self) -> None:
        """Drop the pieces from the page cache."""
        for piece in self._pieces:
            piece.forget()

    def close(self) -> None:
        """Close the files."""
        for piece in self._pieces:
            piece.close()
