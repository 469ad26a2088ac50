"""ovirt-imageio's own checksum of a disk, compared with what was copied.

The server cuts the disk into blocks of 4 MiB as we do and tells BLAKE2b over the BLAKE2b digests (32 bytes) of all
blocks. We hash the blocks as they are read, so nothing is read twice over the network; blocks that an earlier attempt
copied are hashed from the target.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import socket
import threading
from collections.abc import Callable, Iterator

import msgspec

from mover.buffers import ZEROS
from mover.control.imageio_ticket import ImageioTicket
from mover.geometry import BLOCK_BYTES, block_count, block_extent
from mover.sources.base import BlockChecksum
from mover.sources.imageio_http import ImageioConnection
from mtv.model.errors import NOT_UNDERSTOOD, TemporaryError

ALGORITHM = "blake2b"
_DIGEST_BYTES = 32
_QUESTION = f"/checksum?algorithm={ALGORITHM}&block_size={BLOCK_BYTES}"
_SLOWEST_BYTES_PER_S = 10 << 20
_LEAST_WAIT_S = 120.0
_LONGEST_BYTES = 64 << 10
_LOOK_EVERY_S = 0.5


class _Answer(msgspec.Struct):
    checksum: str
    algorithm: str
    block_size: int


class ImageioChecksum(BlockChecksum):
    """The checksum of the disk behind a ticket, ours and the server's."""

    name = f"{ALGORITHM}-{BLOCK_BYTES >> 20}MiB"

    def __init__(self, ticket: ImageioTicket, size_bytes: int) -> None:
        self._ticket = ticket
        self._size_bytes = size_bytes
        count = block_count(size_bytes)
        self._digests = bytearray(_DIGEST_BYTES * count)
        self._is_known = bytearray(count)
        self._answer: _Answer | None = None

    def note(self, block: int, view: memoryview) -> None:
        """Remember a block as it was read; each block belongs to one thread at a time."""
        self._put(block, _digest(view))

    def has(self, block: int) -> bool:
        """Whether the block was noted."""
        return bool(self._is_known[block])

    def note_zeros(self, block: int) -> None:
        """The block is zeros."""
        self._put(block, _digest(ZEROS[: block_extent(block, self._size_bytes).length]))

    def fetch(self, should_stop: Callable[[], bool]) -> None:
        """Have the server compute its checksum, which takes as long as it takes to read the disk there."""
        connection = ImageioConnection(self._ticket)
        try:
            self._answer = self._ask(connection, should_stop)
        except TemporaryError:
            if not should_stop():
                raise
        finally:
            connection.close()

    @property
    def of_source(self) -> str:
        """What the server said, "" before `fetch` has ended well."""
        return self._answer.checksum.lower() if self._answer else ""

    def of_copy(self) -> str:
        """The same checksum over what was noted; every block must have been."""
        if missing := self._is_known.find(0) + 1:
            raise ValueError(f"block {missing - 1} was not noted")
        return hashlib.blake2b(self._digests, digest_size=_DIGEST_BYTES).hexdigest()

    def _put(self, block: int, digest: bytes) -> None:
        self._digests[block * _DIGEST_BYTES : (block + 1) * _DIGEST_BYTES] = digest
        self._is_known[block] = 1

    def _ask(self, connection: ImageioConnection, should_stop: Callable[[], bool]) -> _Answer:
        patience_s = _LEAST_WAIT_S + self._size_bytes / _SLOWEST_BYTES_PER_S
        # The connection is opened by a quick request first, so that the long one can be cut short.
        connection.ask_for_document("OPTIONS", "", longest_bytes=_LONGEST_BYTES)
        with _cut_off(connection, should_stop):
            response = connection.ask("GET", _QUESTION, timeout_s=patience_s)
            if response.status != http.HTTPStatus.OK:
                raise connection.refusal(response)
            try:
                answer = msgspec.json.decode(response.read(_LONGEST_BYTES), type=_Answer)
            except (OSError, http.client.HTTPException, *NOT_UNDERSTOOD) as error:
                raise connection.lost(error) from error
        if (answer.algorithm, answer.block_size) != (ALGORITHM, BLOCK_BYTES):
            raise TemporaryError(f"{self._ticket.name}: another checksum was sent than wanted", code="source-protocol")
        return answer


def _digest(data: memoryview) -> bytes:
    return hashlib.blake2b(data, digest_size=_DIGEST_BYTES).digest()


@contextlib.contextmanager
def _cut_off(connection: ImageioConnection, should_stop: Callable[[], bool]) -> Iterator[None]:
    """End the wait for an answer when told to stop."""
    done = threading.Event()

    def look() -> None:
        while not done.wait(_LOOK_EVERY_S):
            if should_stop() and (sock := connection.socket) is not None:
                with contextlib.suppress(OSError):  # it is closed already
                    socket.socket.shutdown(sock, socket.SHUT_RDWR)

    looker = threading.Thread(target=look, name="checksum-stop", daemon=True)
    looker.start()
    try:
        yield
    finally:
        done.set()
        looker.join()
