"""A disk read through an export lease: a streamOptimized VMDK over HTTPS, from its start only.

A resumed copy reads the stream again from its start, but writes only what is not proven yet.
"""

from __future__ import annotations

import http.client
import io
from collections.abc import Iterator
from typing import TYPE_CHECKING

from mover.control.tls import connect
from mover.geometry import Extent
from mover.sources.base import Piece, StreamSource
from mover.sources.vmdk_stream import decode_stream
from mtv.model.errors import MtvError, PermanentError, TemporaryError
from mtv.model.transfer import VsphereNfc

if TYPE_CHECKING:
    from mover.control.nfc_lease import NfcLease
    from mover.control.vsphere import VsphereSession

_BUFFER_BYTES = 1 << 20


class NfcSource(StreamSource):
    """One disk of a lease. `size_bytes` is the disk's size by the plan; the stream must agree."""

    def __init__(self, where: VsphereNfc, lease: NfcLease, session: VsphereSession, size_bytes: int) -> None:
        self.where = where
        self.lease = lease
        self.session = session
        self.size_bytes = size_bytes

    def open_stream(self) -> Iterator[Piece]:
        """The grains of the disk."""
        endpoint, path = self.lease.disk(self.where.disk_key).location(self.session.endpoint)
        what = f"export of {self.where.vm} disk {self.where.disk_key}"
        connection: http.client.HTTPConnection | None = None
        try:
            connection = connect(endpoint)
            # The URL itself lets us in. A host that it leads to has no use for a session of its vCenter.
            is_vcenter = endpoint.is_same_server(self.session.endpoint)
            connection.request("GET", path, headers={"Cookie": self.session.cookie()} if is_vcenter else {})
            response = connection.getresponse()
            if response.status != http.HTTPStatus.OK:
                raise _refusal(what, response)
            stream = _ExactReader(response, what)
            for piece in decode_stream(stream.read, size_bytes=self.size_bytes, what=what):
                self.lease.report(self.where.disk_key, piece.offset / self.size_bytes)
                yield piece
        except (OSError, http.client.HTTPException) as error:
            raise TemporaryError(f"{what}: connection lost ({type(error).__name__})", code="source-lost") from error
        finally:
            if connection:
                connection.close()

    def changed_since(self, record: str) -> list[Extent]:
        """What vSphere's change tracking says, since the change id `record`. The stream is read whole all the same."""
        from mover.control.changed_areas import ChangeTracking  # pyVmomi's types are needed for nothing else here

        return ChangeTracking(self.session, self.where.vm, self.where.disk_key).since(record, self.size_bytes)

    def close(self) -> None:
        """The lease is shared; it ends with the transfer."""


class _ExactReader:
    """Exactly so many bytes, or the loss of the connection."""

    def __init__(self, response: http.client.HTTPResponse, what: str) -> None:
        self._stream = io.BufferedReader(response, _BUFFER_BYTES)
        self._what = what

    def read(self, length: int) -> bytes:
        data = self._stream.read(length)
        if len(data) < length:
            raise TemporaryError(f"{self._what}: the stream ended too early", code="source-lost")
        return data


def _refusal(what: str, response: http.client.HTTPResponse) -> MtvError:
    said = f"{what}: HTTP {response.status} {response.reason}"
    if response.status in (401, 403, 404, 408, 429) or response.status >= http.HTTPStatus.INTERNAL_SERVER_ERROR:
        # 401 to 404: the lease is not there any more; the next try asks for a new one.
        return TemporaryError(said, cure="see tasks and leases in vCenter", code="source-lease")
    return PermanentError(said, code="source-refused")
