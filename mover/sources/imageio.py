"""A disk of oVirt, read through ovirt-imageio: its extents, ranged GETs on several connections, its own checksum.

    OPTIONS ──▶ features, max_readers        GET …/extents?context=zero ──▶ where data is
    GET …/extents?context=dirty ──▶ what changed since the backup's checkpoint
    GET Range: bytes=a-b ──▶ data            GET …/checksum ──▶ one digest of the whole disk (`imageio_checksum`)

The ticket in the URL is a secret: no message holds the URL.
"""

from __future__ import annotations

import http.client
from collections.abc import Sequence
from contextlib import closing

import msgspec

from mover.control.imageio_ticket import ImageioTicket
from mover.failure import no_changes
from mover.geometry import Extent, merged
from mover.sources.base import RandomSource, Reader, ReadRequest
from mover.sources.imageio_checksum import ImageioChecksum
from mover.sources.imageio_http import ImageioConnection
from mover.sources.ranged import content_range
from mtv.model.errors import NOT_UNDERSTOOD, TemporaryError

DIRTY = "dirty"
"""The one record of changes: of a backup, since the checkpoint that it starts from."""
_MOST_CONNECTIONS = 3
"""More were no faster in measurements, and each costs 4 MiB."""
_LONGEST_OPTIONS_BYTES = 64 << 10
_LONGEST_EXTENTS_BYTES = 256 << 20
_NEAR_BYTES = 128 << 10
"""Zeros between two parts that are cheaper to read than to ask twice."""
_NO_OPTIONS = (204, 405)
"""How old daemons and proxies answer a question that they do not know: no extents, one reader."""


class _Options(msgspec.Struct):
    features: list[str] = []
    max_readers: int = 1


class Area(msgspec.Struct):
    """One entry of the server's extents."""

    start: int
    length: int
    zero: bool = False
    dirty: bool = True


class ImageioSource(RandomSource):
    """The disk of one image transfer."""

    def __init__(self, ticket: ImageioTicket) -> None:
        self.ticket = ticket
        with closing(ImageioConnection(ticket)) as connection:
            options = self._options(connection)
            self.connections = max(1, min(options.max_readers, _MOST_CONNECTIONS))
            self._tells_extents = "extents" in options.features
            self._areas = self._ask_for_areas(connection, "zero") if self._tells_extents else None
            self.size_bytes = _end_of(self._areas) if self._areas else _size_by_range(connection, ticket.name)
        if "checksum" in options.features:
            self.block_checksum = ImageioChecksum(ticket, self.size_bytes)

    def extents(self) -> list[Extent]:
        """What the server does not call zero; all of it if it cannot say."""
        if self._areas is None and self._tells_extents:
            with closing(ImageioConnection(self.ticket)) as connection:
                self._areas = self._ask_for_areas(connection, "zero")
        areas = self._areas or [Area(0, self.size_bytes)]
        return merged((Extent(area.start, area.length) for area in areas if not area.zero), self.size_bytes)

    def changed_since(self, record: str) -> list[Extent]:
        """What the server calls dirty; it has one record, `dirty`, if the transfer is of a backup from a checkpoint."""
        areas: list[Area] | None = None
        if record == DIRTY:
            with closing(ImageioConnection(self.ticket)) as connection:
                areas = self._ask_for_areas(connection, record)
        if areas is None:
            raise no_changes(f"{self.ticket.name}: the transfer is of no backup that tells {record} areas")
        return merged((Extent(area.start, area.length) for area in areas if area.dirty), self.size_bytes)

    def forget(self) -> None:
        """The extents are asked for anew."""
        self._areas = None

    def open_reader(self) -> Reader:
        """A new connection."""
        return _ImageioReader(self.ticket)

    def close(self) -> None:
        """The ticket is the control part's; it ends with the transfer."""

    def _options(self, connection: ImageioConnection) -> _Options:
        status, body = connection.ask_for_document("OPTIONS", "", longest_bytes=_LONGEST_OPTIONS_BYTES)
        if status in _NO_OPTIONS:
            return _Options()
        if status != http.HTTPStatus.OK:
            raise TemporaryError(f"{self.ticket.name}: no options, HTTP {status}", code="source-busy")
        try:
            return msgspec.json.decode(body, type=_Options)
        except NOT_UNDERSTOOD as error:
            raise _nonsense(self.ticket.name, f"its options: {error}") from error

    def _ask_for_areas(self, connection: ImageioConnection, context: str) -> list[Area] | None:
        """The areas of the disk, without a gap; None if the server cannot tell them."""
        status, body = connection.ask_for_document(
            "GET", f"/extents?context={context}", longest_bytes=_LONGEST_EXTENTS_BYTES
        )
        if status == http.HTTPStatus.NOT_FOUND:
            return None
        if status != http.HTTPStatus.OK:
            raise TemporaryError(f"{self.ticket.name}: no extents, HTTP {status}", code="source-busy")
        return areas_in(body, self.ticket.name)


class _ImageioReader(Reader):
    def __init__(self, ticket: ImageioTicket) -> None:
        self._name = ticket.name
        self._connection = ImageioConnection(ticket)

    def begin(self, request: ReadRequest) -> None:
        """HTTP/1.1 has one request under way per connection; it is made when it is waited for."""

    def complete(self, request: ReadRequest) -> None:
        for part in joined_over_gaps(request.parts):
            self._read(request.place(part), part.offset)

    def close(self) -> None:
        self._connection.close()

    def _read(self, view: memoryview, offset: int) -> None:
        last = offset + len(view) - 1
        response = self._connection.ask("GET", headers={"Range": f"bytes={offset}-{last}"})
        if response.status != http.HTTPStatus.PARTIAL_CONTENT:
            raise self._connection.refusal(response)
        sent = content_range(response)
        if sent is None or sent[:2] != (offset, last):
            self._connection.close()
            raise _nonsense(self._name, "another range than was asked for")
        try:
            done = 0
            while done < len(view):
                count = response.readinto(view[done:])
                if not count:
                    raise http.client.IncompleteRead(b"", len(view) - done)
                done += count
            response.read()  # leaves the connection ready for the next request
        except (OSError, http.client.HTTPException) as error:
            raise self._connection.lost(error) from error


def areas_in(body: bytes, name: str) -> list[Area]:
    """The areas of an answer to the question for extents: the whole disk, front to back. Else `TemporaryError`."""
    try:
        areas = msgspec.json.decode(body, type=list[Area])
    except NOT_UNDERSTOOD as error:
        raise _nonsense(name, f"its extents: {error}") from error
    following = 0
    for area in areas:
        # A gap would be taken for zeros and never be read.
        if area.start != following or area.length <= 0:
            raise _nonsense(name, f"its extents: {area.start} after {following}")
        following += area.length
    return areas


def joined_over_gaps(parts: Sequence[Extent]) -> list[Extent]:
    """Parts of a block with the small gaps between them filled: gaps are zeros, so reading them changes nothing."""
    joined: list[Extent] = []
    for part in parts:
        if joined and part.offset - joined[-1].end <= _NEAR_BYTES:
            joined[-1] = Extent(joined[-1].offset, part.end - joined[-1].offset)
        else:
            joined.append(part)
    return joined


def _size_by_range(connection: ImageioConnection, name: str) -> int:
    """The disk's size, from the answer to a read of its first byte."""
    response = connection.ask("GET", headers={"Range": "bytes=0-0"})
    if response.status != http.HTTPStatus.PARTIAL_CONTENT:
        raise connection.refusal(response)
    sent = content_range(response)
    if sent is None:
        raise _nonsense(name, "no size")
    return sent[2]


def _end_of(areas: list[Area]) -> int:
    return areas[-1].start + areas[-1].length


def _nonsense(name: str, what: str) -> TemporaryError:
    return TemporaryError(f"{name}: the server sent {what}", code="source-protocol")
