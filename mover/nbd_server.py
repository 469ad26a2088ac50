"""Shows a source as a read-only NBD export on a Unix socket, for tools that can read nothing else (libguestfs, QEMU).

The fixed newstyle handshake with the few options that QEMU's client needs; one thread and one reader a connection. What
the source calls holes is answered without asking it.
"""

from __future__ import annotations

import bisect
import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from mover.geometry import Extent
from mover.sources.base import RandomSource, Reader, ReadRequest
from mtv.model.errors import MtvError, TemporaryError

_MAGIC, _OPTION, _OPTION_REPLY = b"NBDMAGIC", 0x49484156454F5054, 0x3E889045565A9
_REQUEST, _REPLY = 0x25609513, 0x67446698
_FIXED_NEWSTYLE, _NO_ZEROES = 1, 2
_HAS_FLAGS, _READ_ONLY, _MULTI_CONN = 1, 2, 256
_EXPORT_NAME, _ABORT, _INFO, _GO = 1, 2, 6, 7
_ACK, _IS_INFO, _UNSUPPORTED = 1, 3, (1 << 31) | 1
_READ, _DISCONNECT = 0, 2
_EPERM, _EIO, _EINVAL = 1, 5, 22
_MAX_OPTION_BYTES = 4096
_MAX_READ_BYTES = 32 << 20
_END_S = 10.0


class NbdServer:
    """Serves `source` until it is left as a context manager; the source stays open.

    `failure` is the first error of the source, which its client only sees as an input/output error.
    """

    def __init__(self, source: RandomSource, path: Path) -> None:
        self.source = source
        self.path = path
        self.failure: MtvError | None = None
        self._extents = source.extents()
        self._starts = [extent.offset for extent in self._extents]
        self._listener = socket.socket(socket.AF_UNIX)
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._stopping = False

    @property
    def uri(self) -> str:
        """Where clients find the export."""
        return f"nbd+unix:///?socket={self.path}"

    def __enter__(self) -> Self:
        self._listener.bind(str(self.path))
        self._listener.listen(16)
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._stopping = True
            for connection in self._open:
                _shut(connection)
        _shut(self._listener)  # wakes the thread that accepts, which close() alone does not
        self._listener.close()
        for thread in list(self._threads):
            thread.join(_END_S)
        self.path.unlink(missing_ok=True)

    def _start(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, name=f"nbd-{self.path.name}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:  # the listener was shut down
                return
            with self._lock:
                if self._stopping:
                    connection.close()
                    return
                self._open.add(connection)
            self._start(lambda connection=connection: self._serve(connection))  # type: ignore[misc]

    def _serve(self, connection: socket.socket) -> None:
        try:
            if _handshake(connection, self.source.size_bytes):
                self._answer(connection)
        except (OSError, EOFError, struct.error):
            pass  # the client has gone; what it makes of that is its own affair
        finally:
            with self._lock:
                self._open.discard(connection)
            connection.close()

    def _answer(self, connection: socket.socket) -> None:
        with contextlib.closing(_Reading(self.source)) as reading:
            while True:
                magic, _, kind, cookie, offset, length = struct.unpack(">IHHQQI", _exactly(connection, 28))
                if magic != _REQUEST or kind == _DISCONNECT:
                    return
                error, data = _EPERM, b""
                if kind == _READ:
                    error, data = _EINVAL, b""
                    if length <= _MAX_READ_BYTES and offset + length <= self.source.size_bytes:
                        try:
                            error, data = 0, reading.read(offset, length, self._data_in(offset, length))
                        except MtvError as failed:
                            self.failure = self.failure or failed
                            error, data = _EIO, b""
                connection.sendall(struct.pack(">IIQ", _REPLY, error, cookie) + data)

    def _data_in(self, offset: int, length: int) -> Sequence[Extent]:
        found = []
        for extent in self._extents[max(0, bisect.bisect_right(self._starts, offset) - 1) :]:
            if extent.offset >= offset + length:
                break
            start, end = max(extent.offset, offset), min(extent.offset + extent.length, offset + length)
            if start < end:
                found.append(Extent(start, end - start))
        return found


class _Reading:
    """One reader of the source, opened when it is needed, and another one if it fails with what may pass.

    Servers close connections that were idle for seconds, and whoever asks us boots for longer between two questions.
    """

    def __init__(self, source: RandomSource) -> None:
        self._source = source
        self._reader: Reader | None = None

    def read(self, offset: int, length: int, parts: Sequence[Extent]) -> bytes:
        buffer = bytearray(length)
        if parts:
            request = ReadRequest(memoryview(buffer), offset, parts)
            try:
                self._complete(request)
            except TemporaryError:
                self.close()
                self._complete(request)
        return bytes(buffer)

    def close(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()

    def _complete(self, request: ReadRequest) -> None:
        self._reader = self._reader or self._source.open_reader()
        self._reader.begin(request)
        self._reader.complete(request)


def _handshake(connection: socket.socket, size_bytes: int) -> bool:
    """Agree on the one export. False: the client only asked."""
    connection.sendall(_MAGIC + struct.pack(">QH", _OPTION, _FIXED_NEWSTYLE | _NO_ZEROES))
    (flags,) = struct.unpack(">I", _exactly(connection, 4))
    export = struct.pack(">QH", size_bytes, _HAS_FLAGS | _READ_ONLY | _MULTI_CONN)
    while True:
        magic, option, length = struct.unpack(">QII", _exactly(connection, 16))
        if magic != _OPTION or length > _MAX_OPTION_BYTES:
            return False
        _exactly(connection, length)
        if option == _EXPORT_NAME:
            connection.sendall(export + (b"" if flags & _NO_ZEROES else bytes(124)))
            return True
        if option in (_INFO, _GO):
            _reply(connection, option, _IS_INFO, struct.pack(">H", 0) + export)
            _reply(connection, option, _ACK)
            if option == _GO:
                return True
        else:
            _reply(connection, option, _ACK if option == _ABORT else _UNSUPPORTED)
            if option == _ABORT:
                return False


def _reply(connection: socket.socket, option: int, kind: int, data: bytes = b"") -> None:
    connection.sendall(struct.pack(">QIII", _OPTION_REPLY, option, kind, len(data)) + data)


def _exactly(connection: socket.socket, length: int) -> bytes:
    pieces = b""
    while len(pieces) < length:
        piece = connection.recv(length - len(pieces))
        if not piece:
            raise EOFError
        pieces += piece
    return pieces


def _shut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # closed by its own thread or by the client meanwhile
        connection.shutdown(socket.SHUT_RDWR)
