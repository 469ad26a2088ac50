"""A flat VMDK on a datastore, read by ranged GETs of the server's `/folder` URL with the session's cookie.

The URL gives no extents: everything is read, zeros are found by looking. The VM is off, or the file is the base of a
snapshot, so that it does not change.
"""

from __future__ import annotations

import http.client
import re
import urllib.parse
from typing import TYPE_CHECKING

from mover.geometry import Extent
from mover.sources.base import RandomSource, Reader, ReadRequest
from mtv.model.errors import ConnectionRefused, MtvError, PermanentError, TemporaryError
from mtv.model.transfer import VsphereDatastore

if TYPE_CHECKING:
    from mover.control.vsphere import VsphereSession

_MAX_RENEWALS = 2
"""Times a session is renewed for one request before the refusal is believed."""
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


class DatastoreSource(RandomSource):
    """One file of a datastore."""

    connections = 3

    def __init__(self, where: VsphereDatastore, session: VsphereSession) -> None:
        self.where = where
        self.session = session
        query = urllib.parse.urlencode({"dcPath": where.datacenter, "dsName": where.datastore})
        self.url = f"/folder/{urllib.parse.quote(where.path.lstrip('/'))}?{query}"
        reader = _DatastoreReader(self)
        try:
            self.size_bytes = reader.file_size()
        finally:
            reader.close()

    def extents(self) -> list[Extent]:
        """All of it."""
        return [Extent(0, self.size_bytes)] if self.size_bytes else []

    def open_reader(self) -> Reader:
        """A new connection."""
        return _DatastoreReader(self)

    def close(self) -> None:
        """The session is shared; it ends with the transfer."""


class _DatastoreReader(Reader):
    def __init__(self, source: DatastoreSource) -> None:
        self._url = source.url
        self._name = f"[{source.where.datastore}] {source.where.path}"
        self._session = source.session
        self._cookie = source.session.cookie()
        self._connection: http.client.HTTPSConnection | None = None

    def begin(self, request: ReadRequest) -> None:
        """HTTP/1.1 has one request under way per connection; it is made when it is waited for."""

    def complete(self, request: ReadRequest) -> None:
        for part in request.parts:
            self._read(request.place(part), part.offset)

    def file_size(self) -> int:
        """The file's size, from the answer to a read of its first byte."""
        response = self._get("bytes=0-0")
        try:
            match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
            response.read()
        except (OSError, http.client.HTTPException) as error:
            raise self._lost(error) from error
        if not match:
            raise PermanentError(f"{self._name}: the server does not serve ranges", code="source-no-ranges")
        return int(match.group(3))

    def close(self) -> None:
        if self._connection:
            self._connection.close()
            self._connection = None

    def _read(self, view: memoryview, offset: int) -> None:
        response = self._get(f"bytes={offset}-{offset + len(view) - 1}")
        try:
            match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
            if not match or int(match.group(1)) != offset or int(match.group(2)) != offset + len(view) - 1:
                raise TemporaryError(f"{self._name}: another range was sent than asked for", code="source-protocol")
            done = 0
            while done < len(view):
                count = response.readinto(view[done:])
                if not count:
                    raise TemporaryError(f"{self._name}: the answer ended at byte {offset + done}", code="source-lost")
                done += count
            response.read()  # leaves the connection ready for the next request
        except (OSError, http.client.HTTPException) as error:
            raise self._lost(error) from error

    def _get(self, byte_range: str) -> http.client.HTTPResponse:
        for _ in range(_MAX_RENEWALS + 1):
            response = self._try_get(byte_range)
            if response.status == http.HTTPStatus.PARTIAL_CONTENT:
                return response
            self.close()
            if response.status != http.HTTPStatus.UNAUTHORIZED:
                raise self._refusal(response)
            self._cookie = self._session.renew(self._cookie)
        raise ConnectionRefused(
            f"{self._name}: refused again after a new login",
            cure="check that the user may browse the datastore",
            code="source-login",
        )

    def _try_get(self, byte_range: str) -> http.client.HTTPResponse:
        try:
            if self._connection is None:
                self._connection = self._session.connect()
            self._connection.request("GET", self._url, headers={"Cookie": self._cookie, "Range": byte_range})
            return self._connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            raise self._lost(error) from error

    def _refusal(self, response: http.client.HTTPResponse) -> MtvError:
        said = f"{self._name}: HTTP {response.status} {response.reason}"
        if response.status == http.HTTPStatus.FORBIDDEN:
            return ConnectionRefused(said, cure="grant the user Datastore.Browse", code="source-privilege")
        if response.status == http.HTTPStatus.NOT_FOUND:
            return PermanentError(said, cure="read the inventory again: the disk has moved", code="source-missing")
        if response.status == http.HTTPStatus.OK:
            return PermanentError(f"{self._name}: the server does not serve ranges", code="source-no-ranges")
        if response.status >= http.HTTPStatus.INTERNAL_SERVER_ERROR or response.status in (408, 429):
            return TemporaryError(said, cure="see the server's load", code="source-busy")
        return PermanentError(said, code="source-refused")

    def _lost(self, error: Exception) -> TemporaryError:
        self.close()
        return TemporaryError(
            f"{self._name}: connection lost ({type(error).__name__}: {error})",
            cure="the copy resumes when the server is back",
            code="source-lost",
        )
