"""Any NBD server: nbdkit with whatever plugin, qemu-nbd, qemu-storage-daemon."""

from __future__ import annotations

import contextlib
import time
from typing import Any

from mover.geometry import Extent, merged
from mover.sources.base import RandomSource, Reader, ReadRequest
from mover.sources.nbd_module import load_nbd
from mtv.model.errors import MtvError, PermanentError, TemporaryError

_ALLOCATION = "base:allocation"
_READS_AS_ZEROS = 2
_STATUS_BYTES = 1 << 31
"""Asked for at once; replies are clipped to 32 bits."""
STALL_S = 60.0
"""A request that makes no progress for so long is given up."""


class NbdSource(RandomSource):
    """An export, read over up to two connections if the server allows several."""

    depth = 2

    def __init__(self, uri: str) -> None:
        self.uri = uri
        handle = _connect(uri)
        try:
            self.size_bytes = int(handle.get_size())
            self.connections = 2 if handle.can_multi_conn() else 1
            self._tells_extents = bool(handle.can_meta_context(_ALLOCATION))
        finally:
            _shut(handle)

    def extents(self) -> list[Extent]:
        """What the server does not call zero; all of it if it cannot say."""
        whole = Extent(0, self.size_bytes)
        if not self._tells_extents:
            return merged([whole], self.size_bytes)
        handle = _connect(self.uri)
        try:
            return merged(_data_extents(handle, self.size_bytes), self.size_bytes)
        except load_nbd().Error as error:
            raise _lost(self.uri, error) from error
        finally:
            _shut(handle)

    def open_reader(self) -> Reader:
        """A new connection."""
        return _NbdReader(self.uri)

    def close(self) -> None:
        """Nothing is held between readers."""


class _NbdReader(Reader):
    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._error = load_nbd().Error
        self._handle = _connect(uri)

    def begin(self, request: ReadRequest) -> None:
        try:
            request.tokens = [self._handle.aio_pread(request.place(part), part.offset) for part in request.parts]
        except self._error as error:
            raise _lost(self._uri, error) from error

    def complete(self, request: ReadRequest) -> None:
        deadline = time.monotonic() + STALL_S
        try:
            for token in request.tokens:
                while not self._handle.aio_command_completed(token):
                    if time.monotonic() > deadline:
                        raise TemporaryError(f"{self._uri} did not answer for {STALL_S:.0f} s", code="source-stalled")
                    self._handle.poll(1000)
        except self._error as error:
            raise _lost(self._uri, error) from error

    def close(self) -> None:
        _shut(self._handle)


def _connect(uri: str) -> Any:
    nbd = load_nbd()
    handle = nbd.NBD()
    try:
        handle.add_meta_context(_ALLOCATION)
        handle.set_pread_initialize(False)  # a failed read is never used, so its buffer need not be zeroed first
        handle.connect_uri(uri)
    except nbd.Error as error:
        raise _refused(uri, error) from error
    return handle


def _shut(handle: Any) -> None:
    # Whatever goes wrong at the end of a connection, its reads are done or given up.
    with contextlib.suppress(load_nbd().Error):
        handle.shutdown(load_nbd().SHUTDOWN_ABANDON_PENDING)


def _data_extents(handle: Any, size_bytes: int) -> list[Extent]:
    found: list[Extent] = []
    position = 0

    def collect(_context: str, offset: int, entries: list[int], _error: Any) -> int:
        nonlocal position
        here = offset
        for length, flags in zip(entries[::2], entries[1::2], strict=True):
            if not flags & _READS_AS_ZEROS:
                found.append(Extent(here, length))
            here += length
        position = max(position, here)
        return 0

    while position < size_bytes:
        before = position
        handle.block_status(min(_STATUS_BYTES, size_bytes - position), position, collect)
        if position <= before:
            raise TemporaryError(f"the NBD server gave no block status at {before}", code="source-protocol")
    return found


def _refused(uri: str, error: Any) -> MtvError:
    if getattr(error, "errno", "") in ("ENOENT", "EINVAL", "EPERM", "EACCES"):
        return PermanentError(
            f"{uri}: {error}", cure="check the NBD URI and that the server runs", code="source-refused"
        )
    return TemporaryError(f"{uri}: {error}", cure="check that the NBD server runs", code="source-lost")


def _lost(uri: str, error: Any) -> MtvError:
    return TemporaryError(f"{uri}: {error}", cure="the copy resumes when the server is back", code="source-lost")
