"""A disk image on a plain web server, let in by a header out of a file."""

from __future__ import annotations

import re
import threading
import urllib.parse
from collections.abc import Mapping
from pathlib import Path

from mover.control.credentials import read_credential
from mover.control.endpoint import Location
from mover.sources.ranged import RangedFile, RangedSource, location_of
from mtv.model.errors import ConnectionRefused, PermanentError, TemporaryError
from mtv.model.transfer import HttpRange

_HEADER = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*):[ \t]*([\x21-\x7e][\x20-\x7e]*)")
_OURS = frozenset(("host", "range", "if-range", "accept-encoding", "connection", "content-length", "transfer-encoding"))
_HEADER_CURE = "write one line `Name: value` into it, for example `Authorization: Bearer …`"


def open_http_range(where: HttpRange, credentials_dir: Path, ca_file: Path | None) -> RangedSource:
    """The image as a source. Raises `PermanentError` for another format than raw: an image is never looked into."""
    if where.format != "raw":
        raise PermanentError(
            f"an image of format {where.format!r} cannot be read over HTTP",
            cure="convert it to raw on the server (qemu-img convert -O raw), and say format raw",
            code="source-format",
        )
    source = RangedSource(HttpFile(where, credentials_dir, ca_file))
    source.content_checksum = where.checksum
    return source


class HttpFile(RangedFile):
    """The file at a URL. Its header file is read again whenever the server refuses what it held."""

    def __init__(self, where: HttpRange, credentials_dir: Path, ca_file: Path | None) -> None:
        self.name = name_of(where.url)
        self.location = web_location(
            where.url,
            ca_file=ca_file,
            thumbprint=where.thumbprint,
            insecure=where.insecure,
        )
        if where.header_file:
            refuse_secrets_in_the_open(self.location, self.name, insecure=where.insecure)
        self._where = where
        self._folder = credentials_dir
        self._lock = threading.Lock()
        self._current = self._from_file()

    def credential(self) -> Mapping[str, str]:
        """The header, or none."""
        with self._lock:
            return self._current

    def renew(self, stale: Mapping[str, str]) -> Mapping[str, str]:
        """The header as it stands in the file now; the same as before is no cure, but may become one."""
        with self._lock:
            if self._current == stale:
                self._current = self._from_file()
            if self._current != stale:
                return self._current
        if not stale:
            raise ConnectionRefused(
                f"{self.name}: the server asks for a login",
                cure="give a file with a header line that lets us in",
                code="source-login",
            )
        raise TemporaryError(
            f"{self.name}: the server refuses the header in {self._where.header_file}",
            cure="put a valid one into the file; the copy then goes on",
            code="source-login",
        )

    def _from_file(self) -> Mapping[str, str]:
        if not self._where.header_file:
            return {}
        line = read_credential(self._folder, self._where.header_file, cure=_HEADER_CURE)
        match = _HEADER.fullmatch(line.strip())
        if not match or match[1].lower() in _OURS:
            raise PermanentError(
                f"credential file {self._where.header_file} does not hold one header line",
                cure=_HEADER_CURE,
                code="credentials-missing",
            )
        return {match[1]: match[2]}


def name_of(url: str) -> str:
    """A URL for messages: without query, fragment and credentials, which may be secret.

    A password with a slash in it ends what looks like the host: then the URL is not repeated at all.
    """
    try:
        parts = urllib.parse.urlsplit(url)
        has_port = parts.port is not None
    except ValueError:
        return "the source's address"
    if has_port and "@" in f"{parts.path}{parts.query}{parts.fragment}":
        return "the source's address"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def web_location(url: str, *, ca_file: Path | None, thumbprint: str, insecure: bool) -> Location:
    """Where a URL points to; `PermanentError` (code spec) if it is none, or holds credentials."""
    try:
        return location_of(url, ca_file=ca_file, thumbprint=thumbprint, insecure=insecure)
    except ValueError as error:
        raise PermanentError(
            f"the address of the source is not usable: {error}",
            cure="give https://host/path, and credentials in a file",
            code="spec",
        ) from None


def refuse_secrets_in_the_open(location: Location, name: str, *, insecure: bool) -> None:
    """Credentials go over plain HTTP only when somebody said that this is wanted."""
    if not location.endpoint.tls and not insecure:
        raise PermanentError(
            f"{name}: credentials would be sent over plain HTTP",
            cure="use https, or say `insecure` if nobody else can listen there",
            code="source-insecure",
        )
