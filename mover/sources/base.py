"""The shape of a source. Two kinds: one is read at any offset, the other is a stream that is read once from its start.

    Source ── RandomSource   NBD, datastore URL, OVA members that can be read at an offset, files, devices
           └─ StreamSource   NFC export, gzip'ed OVA members

Failures are `PermanentError` or `TemporaryError` with codes that begin with `source-`. Offsets are bytes of the disk.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from mover.failure import no_changes
from mover.geometry import Extent


class ReadRequest:
    """The wish to have `parts` of the disk at their places in `view`, whose first byte is the disk's `base`."""

    def __init__(self, view: memoryview, base: int, parts: Sequence[Extent]) -> None:
        self.view = view
        self.base = base
        self.parts = parts
        self.tokens: list[int] = []
        """The reader's own notes about requests under way."""

    def place(self, part: Extent) -> memoryview:
        """Where a part's bytes go."""
        start = part.offset - self.base
        return self.view[start : start + part.length]


class Reader(ABC):
    """One connection to a source, used by one thread at a time. Several requests may be begun before the first is
    completed.
    """

    @abstractmethod
    def begin(self, request: ReadRequest) -> None:
        """Start reading; readers without asynchronous calls do nothing here."""

    @abstractmethod
    def complete(self, request: ReadRequest) -> None:
        """Return when all bytes are in place. Requests are completed in the order in which they began."""

    @abstractmethod
    def close(self) -> None:
        """Give up the connection and whatever is under way; never raises."""


class BlockChecksum(ABC):
    """A checksum that the source tells and that is made of the digests of our blocks, so that it proves the copy."""

    name: str
    """Its kind, for the evidence."""

    @abstractmethod
    def note(self, block: int, view: memoryview) -> None:
        """A block as it was read (or as it is on the target)."""

    @abstractmethod
    def note_zeros(self, block: int) -> None:
        """A block of zeros."""

    @abstractmethod
    def has(self, block: int) -> bool:
        """Whether the block was noted."""

    @abstractmethod
    def fetch(self, should_stop: Callable[[], bool]) -> None:
        """Ask the source; may take as long as the source needs to read the disk."""

    @property
    @abstractmethod
    def of_source(self) -> str:
        """What the source said; "" if `fetch` was stopped."""

    @abstractmethod
    def of_copy(self) -> str:
        """The same over all blocks that were noted."""


class Source(ABC):
    """A disk to be copied."""

    size_bytes: int
    generation = ""
    """What the server says of the version that is open (ETag and such); another one does not resume the copy."""
    content_checksum = ""
    """`<algorithm>:<hex>` over the whole disk's bytes, as the source states it; compared with what was copied."""
    files: tuple[Path, ...] = ()
    """The local files that it is read from."""
    has_own_checksum = False
    block_checksum: BlockChecksum | None = None
    """For sources with a checksum that the copied blocks can be compared with."""

    def check_own_checksum(self, should_stop: Callable[[], bool]) -> str:
        """Compare the source with its own checksum: `sha256:<hex>` if it agrees, "" if stopped early.

        Raises `PermanentError` (code source-checksum) if it does not agree.
        """
        raise NotImplementedError

    def changed_since(self, record: str) -> list[Extent]:
        """What may differ from an earlier state of the disk, as `merged` returns it; areas that became zeros too.

        `record` is what this kind of source calls its note of that: see `DiskTransfer.dirty_context`. Most keep none.
        Raises `PermanentError` (code source-no-changes, NBD: source-no-bitmap) if it does not tell.
        """
        raise no_changes(f"this source does not tell what changed since {record}")

    def forget(self) -> None:  # noqa: B027 - most sources keep nothing here
        """Drop what is cached on this machine, so that a second read reaches the medium again."""

    @abstractmethod
    def close(self) -> None:
        """Give up everything; never raises."""


class RandomSource(Source):
    """Read at any offset. `connections` readers at most, with `depth` requests under way in each to begin with; where
    `depth` is more than one, one more is tried.
    """

    connections = 1
    depth = 1

    @abstractmethod
    def extents(self) -> list[Extent]:
        """Where data is; sorted, not touching. Everything else reads as zeros."""

    @abstractmethod
    def open_reader(self) -> Reader:
        """A new connection."""


class Piece(NamedTuple):
    """Bytes of a stream and where they belong on the disk."""

    offset: int
    data: bytes


class StreamSource(Source):
    """Read once, front to back. What is not in the stream reads as zeros."""

    @abstractmethod
    def open_stream(self) -> Iterator[Piece]:
        """The pieces in ascending order, from the start. A stream that ends too early raises, it never just stops."""
