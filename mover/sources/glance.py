"""A raw image in OpenStack's image service: read by ranges, with its own checksum compared at the end."""

from __future__ import annotations

import urllib.parse
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path

import msgspec

from mover.control.endpoint import Location
from mover.control.exchange import TRANSPORT_ERRORS, exchange
from mover.control.keystone import KeystoneScope, KeystoneSession
from mover.sources.http_range import refuse_secrets_in_the_open, web_location
from mover.sources.ranged import RangedFile, RangedSource
from mtv.model.errors import NOT_UNDERSTOOD, ConnectionRefused, DriftError, PermanentError, TemporaryError
from mtv.model.transfer import GlanceImage

_MAX_RECORD_BYTES = 1 << 20


class ImageRecord(msgspec.Struct, frozen=True):
    """What the service says of an image; fields are Glance's own."""

    status: str
    size: int | None = None
    disk_format: str | None = None
    container_format: str | None = None
    checksum: str | None = None
    os_hash_algo: str | None = None
    os_hash_value: str | None = None


def keystone_scope(where: GlanceImage, ca_file: Path | None) -> KeystoneScope:
    """Where the image's token comes from."""
    location = web_location(where.auth_url, ca_file=ca_file, thumbprint=where.auth_thumbprint, insecure=where.insecure)
    refuse_secrets_in_the_open(location, "Keystone", insecure=where.insecure)
    return KeystoneScope(
        endpoint=location.endpoint,
        path=location.path.rstrip("/").removesuffix("/v3"),
        project=where.project,
        project_domain=where.project_domain,
        user_domain=where.user_domain,
    )


def open_glance(where: GlanceImage, session: KeystoneSession, ca_file: Path | None) -> RangedSource:
    """The image as a source. Raises `PermanentError` unless it is active, bare and raw."""
    file = GlanceFile(where, session, ca_file)
    record = file.record()
    if record.status != "active":
        raise PermanentError(
            f"{file.name} is {record.status}, not active", cure="wait until its upload has ended", code="source-missing"
        )
    if record.disk_format != "raw" or record.container_format != "bare":
        raise PermanentError(
            f"{file.name} is {record.disk_format} in {record.container_format}, only raw in bare is read",
            cure="convert it to raw and upload it anew (qemu-img convert -O raw; --disk-format raw)",
            code="source-format",
        )
    source = RangedSource(file)
    if record.size is not None and record.size != source.size_bytes:
        raise DriftError(
            f"{file.name} has {record.size} bytes by its record, {source.size_bytes} are served",
            cure="look at the image service's store",
            code="source-size",
        )
    source.content_checksum = _checksum_of(record)
    # An active image never changes: its checksum is its version.
    source.generation = source.content_checksum
    return source


def _checksum_of(record: ImageRecord) -> str:
    if record.os_hash_algo and record.os_hash_value:
        return f"{record.os_hash_algo}:{record.os_hash_value}"
    return f"md5:{record.checksum}" if record.checksum else ""


class GlanceFile(RangedFile):
    """The data of one image, by a token that is renewed when it is refused."""

    # Stores answer with headers of their own; the record's checksum is what counts.
    has_validators = False
    cures: Mapping[int, str] = {
        401: "check the user's role in the project that owns the image",
        403: "let the user download the image (policy download_image)",
        404: "check the image's id, and that the project sees it",
    }

    def __init__(self, where: GlanceImage, session: KeystoneSession, ca_file: Path | None) -> None:
        self.name = f"Glance image {where.image}"
        root = web_location(where.endpoint, ca_file=ca_file, thumbprint=where.thumbprint, insecure=where.insecure)
        refuse_secrets_in_the_open(root, self.name, insecure=where.insecure)
        base = root.path.rstrip("/").removesuffix("/v2")
        self._record_path = f"{base}/v2/images/{urllib.parse.quote(where.image, safe='')}"
        self.location = Location(root.endpoint, f"{self._record_path}/file")
        self._session = session

    def credential(self) -> Mapping[str, str]:
        """The token."""
        return {"X-Auth-Token": self._session.token()}

    def renew(self, stale: Mapping[str, str]) -> Mapping[str, str]:
        """Another token."""
        return {"X-Auth-Token": self._session.renew(stale["X-Auth-Token"])}

    def record(self) -> ImageRecord:
        """What the service says of the image."""
        credential = self.credential()
        status, body = self._ask(credential)
        if status == HTTPStatus.UNAUTHORIZED:
            status, body = self._ask(self.renew(credential))
        if status == HTTPStatus.OK:
            try:
                return msgspec.json.decode(body, type=ImageRecord)
            except NOT_UNDERSTOOD as error:
                # Whoever tells no length and is cut off has sent half a document.
                raise TemporaryError(
                    f"{self.name}: its record is not understood",
                    cure="see that the endpoint is the image service's",
                    code="source-protocol",
                ) from error
        said = f"{self.name}: HTTP {status}"
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.TOO_MANY_REQUESTS:
            raise TemporaryError(said, cure="see the image service's load", code="source-busy")
        cure = self.cures.get(status, "")
        if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            raise ConnectionRefused(said, cure=cure, code="source-privilege")
        raise PermanentError(said, cure=cure, code="source-missing")

    def _ask(self, credential: Mapping[str, str]) -> tuple[int, bytes]:
        try:
            answer = exchange(
                self.location.endpoint,
                "GET",
                self._record_path,
                body=None,
                headers=credential,
                longest_bytes=_MAX_RECORD_BYTES,
            )
        except TRANSPORT_ERRORS as error:
            raise TemporaryError(
                f"{self.name}: connection lost ({type(error).__name__})",
                cure="check host, port and network policy",
                code="source-lost",
            ) from None
        return answer.status, answer.body
