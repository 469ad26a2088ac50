"""A file on a web server read by ranged GETs: what datastore URLs, image services and plain web servers have in common.

Nothing that the server says is believed: an answer must be the range that was asked for, whole, and of the version
that was there first. Credentials go to the server they are meant for and to no other, wherever it redirects to.
The URL gives no extents: everything is read, zeros are found by looking.
"""

from __future__ import annotations

import http.client
import re
import urllib.parse
from abc import ABC, abstractmethod
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import NamedTuple

from mover.control.endpoint import Endpoint, Location
from mover.control.tls import connect
from mover.geometry import Extent
from mover.sources.base import RandomSource, Reader, ReadRequest
from mtv.model.errors import ConnectionRefused, DriftError, MtvError, PermanentError, TemporaryError

_MAX_RENEWALS = 2
"""Times a credential is renewed for one request before the refusal is believed."""
_MAX_REDIRECTS = 5
_REDIRECTS = frozenset((301, 302, 303, 307, 308))
_BUSY = frozenset((408, 425, 429))
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


class Version(NamedTuple):
    """What tells one state of a file from another. Texts are empty where the server does not say."""

    size_bytes: int
    etag: str = ""
    modified: str = ""

    def differs_from(self, other: Version) -> bool:
        """Whether both say something and not the same."""
        return any(mine and theirs and mine != theirs for mine, theirs in zip(self, other, strict=True))


class RangedFile(ABC):
    """One file on a server, and how its owner is let in. Shared by the threads that read it."""

    name: str
    """For messages: without query and credentials."""
    location: Location
    has_validators = True
    """Whether ETag and Last-Modified are the content's (else only the size is compared)."""
    cures: Mapping[int, str] = {}
    """What to do about an HTTP status, where this kind of server has an answer of its own."""

    @abstractmethod
    def credential(self) -> Mapping[str, str]:
        """The headers that let us in now."""

    @abstractmethod
    def renew(self, stale: Mapping[str, str]) -> Mapping[str, str]:
        """Headers other than `stale`, which were refused; many threads may ask at once."""


class RangedSource(RandomSource):
    """The whole file, as it lies there, is the disk."""

    connections = 3

    def __init__(self, file: RangedFile) -> None:
        self.file = file
        reader = _RangedReader(file)
        try:
            self.version = reader.version()
        finally:
            reader.close()
        self.size_bytes = self.version.size_bytes
        self.generation = " ".join(text for text in self.version[1:] if text)

    def extents(self) -> list[Extent]:
        """All of it."""
        return [Extent(0, self.size_bytes)] if self.size_bytes else []

    def open_reader(self) -> Reader:
        """A new connection, which takes no other version than the one that was opened."""
        return _RangedReader(self.file, self.version)

    def close(self) -> None:
        """Sessions and tokens are shared; they end with the transfer."""


class _RangedReader(Reader):
    """One connection, kept open between requests. `version`: the only one that is taken (None: any)."""

    def __init__(self, file: RangedFile, version: Version | None = None) -> None:
        self._file = file
        self._name = file.name
        self._version = version
        self._location = file.location
        self._credential = file.credential()
        self._connection: http.client.HTTPConnection | None = None

    def begin(self, request: ReadRequest) -> None:
        """HTTP/1.1 has one request under way per connection; it is made when it is waited for."""

    def complete(self, request: ReadRequest) -> None:
        for part in request.parts:
            self._read(request.place(part), part.offset)

    def version(self) -> Version:
        """The file's size and version, from the answer to a read of its first byte."""
        first = bytearray(1)
        return self._read(memoryview(first), 0)

    def close(self) -> None:
        if self._connection:
            self._connection.close()
            self._connection = None

    def _read(self, view: memoryview, offset: int) -> Version:
        last = offset + len(view) - 1
        response = self._get(f"bytes={offset}-{last}")
        try:
            found = self._check(response, offset, last)
            done = 0
            while done < len(view):
                count = response.readinto(view[done:])
                if not count:
                    raise TemporaryError(f"{self._name}: the answer ended at byte {offset + done}", code="source-lost")
                done += count
            if response.read(1):  # also leaves the connection ready for the next request
                raise TemporaryError(f"{self._name}: more was sent than asked for", code="source-protocol")
        except (OSError, http.client.HTTPException) as error:
            raise self._lost(error) from None
        except MtvError:
            self.close()
            raise
        return found

    def _check(self, response: http.client.HTTPResponse, offset: int, last: int) -> Version:
        sent = content_range(response)
        if sent is None or sent[:2] != (offset, last):
            raise TemporaryError(f"{self._name}: another range was sent than asked for", code="source-protocol")
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise PermanentError(
                f"{self._name}: the server compresses what it sends",
                cure="turn compression off for this file on the server",
                code="source-no-ranges",
            )
        found = Version(sent[2])
        if self._file.has_validators:
            headers = response.headers
            found = found._replace(etag=headers.get("ETag", ""), modified=headers.get("Last-Modified", ""))
        if self._version and found.differs_from(self._version):
            raise DriftError(
                f"{self._name} changed while it was copied: it was {_told(self._version)}, now it is {_told(found)}",
                cure="let nobody write to it, then start again: the copy starts from zero",
                code="source-changed",
            )
        return found

    def _get(self, byte_range: str) -> http.client.HTTPResponse:
        renewals = hops = detours = 0
        while True:
            response = self._try_get(byte_range)
            if response.status == HTTPStatus.PARTIAL_CONTENT:
                return response
            self.close()
            if response.status in _REDIRECTS:
                hops += 1
                self._location = self._redirected(response, hops)
            elif self._location != self._file.location and detours < _MAX_RENEWALS:
                # Where a redirect leads to is often good for some minutes only: the first server knows anew.
                detours += 1
                hops = 0
                self._location = self._file.location
            elif response.status == HTTPStatus.UNAUTHORIZED and renewals < _MAX_RENEWALS:
                renewals += 1
                self._credential = self._file.renew(self._credential)
            else:
                raise self._refusal(response)

    def _try_get(self, byte_range: str) -> http.client.HTTPResponse:
        endpoint, path = self._location
        headers = {"Range": byte_range, "Accept-Encoding": "identity"}
        if endpoint.is_same_server(self._file.location.endpoint):
            headers |= self._credential
        try:
            if self._connection is None or self._connection.sock is None:  # the server may close after an answer
                self._connection = connect(endpoint)
            self._connection.request("GET", path, headers=headers)
            return self._connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            raise self._lost(error) from None

    def _redirected(self, response: http.client.HTTPResponse, hops: int) -> Location:
        if hops > _MAX_REDIRECTS:
            raise PermanentError(f"{self._name}: redirected more than {_MAX_REDIRECTS} times", code="source-redirect")
        endpoint, path = self._location
        scheme = "https" if endpoint.tls else "http"
        base = f"{scheme}://[{endpoint.host}]" if ":" in endpoint.host else f"{scheme}://{endpoint.host}"
        try:
            target = urllib.parse.urljoin(f"{base}:{endpoint.port}{path}", response.headers.get("Location", ""))
            found = location_of(target, ca_file=self._file.location.endpoint.ca_file)
        except ValueError:  # its text may quote the address, which may hold a secret
            raise PermanentError(
                f"{self._name}: redirected to something that is no web address, or that holds credentials",
                cure="mend the server's redirect",
                code="source-redirect",
            ) from None
        if endpoint.tls and not found.endpoint.tls:
            raise PermanentError(
                f"{self._name}: redirected from HTTPS to plain HTTP",
                cure="mend the server's redirect",
                code="source-redirect",
            )
        # The thumbprint (or leave to trust anybody) is for the named server only.
        origin = self._file.location.endpoint
        return found._replace(endpoint=origin) if found.endpoint.is_same_server(origin) else found

    def _refusal(self, response: http.client.HTTPResponse) -> MtvError:
        status = response.status
        said = f"{self._name}: HTTP {status}"
        cure = self._file.cures.get(status, "")
        if status == HTTPStatus.UNAUTHORIZED:
            return ConnectionRefused(f"{self._name}: refused again after a new login", cure=cure, code="source-login")
        if status == HTTPStatus.FORBIDDEN:
            return ConnectionRefused(said, cure=cure or "let the user read it", code="source-privilege")
        if status in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE):
            return PermanentError(said, cure=cure or "check its name", code="source-missing")
        if status in (HTTPStatus.OK, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE):
            return PermanentError(
                f"{self._name}: the server does not serve ranges of it (HTTP {status})",
                cure="turn range requests on at the server, or copy from a file; an empty image has no ranges either",
                code="source-no-ranges",
            )
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _BUSY:
            return TemporaryError(said, cure="see the server's load", code="source-busy")
        return PermanentError(said, cure=cure, code="source-refused")

    def _lost(self, error: Exception) -> TemporaryError:
        self.close()
        # Protocol errors may quote what was sent, so only their kind is told.
        why = type(error).__name__ + (f": {error}" if isinstance(error, OSError) else "")
        return TemporaryError(
            f"{self._name}: connection lost ({why})",
            cure="the copy resumes when the server is back",
            code="source-lost",
        )


def content_range(response: http.client.HTTPResponse) -> tuple[int, int, int] | None:
    """First and last byte of what was sent and the size of the whole, or None if the server does not say."""
    match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    return (int(match[1]), int(match[2]), int(match[3])) if match else None


def location_of(url: str, *, ca_file: Path | None = None, thumbprint: str = "", insecure: bool = False) -> Location:
    """An `http://` or `https://` URL taken apart. Raises ValueError, without the URL in it."""
    try:
        parts = urllib.parse.urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:  # its text quotes the URL
        raise ValueError("its host or port is not written like one") from None
    if parts.scheme not in ("http", "https") or not host:
        raise ValueError("it must begin with http:// or https:// and a host")
    if parts.username is not None or parts.password is not None:
        raise ValueError("it holds credentials")
    tls = parts.scheme == "https"
    endpoint = Endpoint(
        host=host.lower(),
        port=port or (443 if tls else 80),
        thumbprint=thumbprint,
        insecure=insecure,
        ca_file=ca_file,
        tls=tls,
    )
    path = urllib.parse.quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._")
    query = urllib.parse.quote(parts.query, safe="/%:@!$&'()*+,;=~-._?")
    return Location(endpoint, f"{path}?{query}" if query else path)


def _told(version: Version) -> str:
    return ", ".join((f"{version.size_bytes} bytes", *(text for text in version[1:] if text)))
