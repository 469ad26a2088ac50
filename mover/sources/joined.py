"""Several disks one behind the other as one: the extents of a VMDK descriptor."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from mover.geometry import Extent, merged, spans
from mover.sources.base import RandomSource, Reader, ReadRequest


class NothingSource(RandomSource):
    """Zeros only."""

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes

    def extents(self) -> list[Extent]:
        """None."""
        return []

    def open_reader(self) -> Reader:
        """A reader that has zeros for every request."""
        return _NothingReader()

    def close(self) -> None:
        """Nothing is open."""


class _NothingReader(Reader):
    def begin(self, request: ReadRequest) -> None:
        """Nothing is waited for."""

    def complete(self, request: ReadRequest) -> None:
        for part in request.parts:
            request.place(part)[:] = bytes(part.length)

    def close(self) -> None:
        """Nothing is open."""


class JoinedSource(RandomSource):
    """The sources in order. Closing it closes them. `generation` tells this version of all their files from others."""

    connections = 2

    def __init__(self, sources: Sequence[RandomSource], *, generation: str = "") -> None:
        self.sources = list(sources)
        self.generation = generation
        self.files = tuple(file for source in sources for file in source.files)
        self.ends = list(accumulate(source.size_bytes for source in sources))
        self.size_bytes = self.ends[-1]

    def extents(self) -> list[Extent]:
        """Where the parts have data."""
        found = (
            Extent(end - source.size_bytes + extent.offset, extent.length)
            for source, end in zip(self.sources, self.ends, strict=True)
            for extent in source.extents()
        )
        return merged(found, self.size_bytes)

    def open_reader(self) -> Reader:
        """A reader of each part."""
        return _JoinedReader(self)

    def forget(self) -> None:
        """Drop the parts' files from the page cache."""
        for source in self.sources:
            source.forget()

    def close(self) -> None:
        """Close the parts."""
        for source in self.sources:
            source.close()


class _JoinedReader(Reader):
    def __init__(self, source: JoinedSource) -> None:
        self._source = source
        self._readers = [part.open_reader() for part in source.sources]

    def begin(self, request: ReadRequest) -> None:
        """The parts are local files, read when they are asked for."""

    def complete(self, request: ReadRequest) -> None:
        for wanted in request.parts:
            for index, inside, at in spans(self._source.ends, wanted):
                view = request.place(Extent(wanted.offset + at, inside.length))
                self._readers[index].complete(ReadRequest(view, inside.offset, [inside]))

    def close(self) -> None:
        for reader in self._readers:
            reader.close()
