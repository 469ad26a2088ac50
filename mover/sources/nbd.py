"""Any NBD server: nbdkit with whatever plugin, qemu-nbd, qemu-storage-daemon."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from typing import Any

from mover.geometry import Extent, merged
from mover.sources.base import RandomSource, Reader, ReadRequest
from mover.sources.nbd_module import load_nbd
from mtv.model.errors import DriftError, MtvError, PermanentError, TemporaryError

_ALLOCATION = "base:allocation"
_READS_AS_ZEROS = 2
_DIRTY = 1
_STATUS_BYTES = 1 << 31
"""Asked for at once; replies are clipped to 32 bits."""
_GOODBYE_S = 3.0
STALL_S = 45.0
"""A request or connection that is not answered for so long is given up."""


class NoSocket(PermanentError):
    """Nothing is where the server's Unix socket should be."""


class NbdSource(RandomSource):
    """An export, read over up to two connections if the server allows several.

    The connection that asks for its size also asks for its extents, and is then the first to be read over. A server
    that let it in and refuses a later one is being started again: only the first one's refusal is permanent.
    """

    depth = 2

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._lock = threading.Lock()
        self._first: Any = _connect(uri)
        try:
            self.size_bytes = int(self._first.get_size())
            self.connections = 2 if self._first.can_multi_conn() else 1
            self._tells_extents = bool(self._first.can_meta_context(_ALLOCATION))
        except BaseException:
            _shut(self._first)
            raise

    def extents(self) -> list[Extent]:
        """What the server does not call zero; all of it if it cannot say."""
        whole = Extent(0, self.size_bytes)
        if not self._tells_extents:
            return merged([whole], self.size_bytes)
        handle = self._take_first() or self._connect_again()
        try:
            found = self._where(handle, _ALLOCATION, lambda flags: not flags & _READS_AS_ZEROS)
        except BaseException:
            _shut(handle)
            raise
        with self._lock:
            handle, self._first = self._first, handle
        if handle is not None:
            _shut(handle)
        return found

    def changed_since(self, record: str) -> list[Extent]:
        """What a dirty bitmap of the server calls changed, e.g. of `qemu:dirty-bitmap:NAME`."""
        handle = self._connect_again(record)
        try:
            if not handle.can_meta_context(record):
                raise PermanentError(
                    f"{self.uri} does not tell {record}",
                    cure="check the bitmap's name and that the export carries it",
                    code="source-no-bitmap",
                )
            return self._where(handle, record, lambda flags: bool(flags & _DIRTY))
        finally:
            _shut(handle)

    def open_reader(self) -> Reader:
        """A connection: the one that is open already, or a new one."""
        return _NbdReader(self.uri, self._take_first() or self._connect_again())

    def close(self) -> None:
        """End the connection that no reader has taken."""
        handle = self._take_first()
        if handle is not None:
            _shut(handle)

    def _take_first(self) -> Any:
        """The connection that is kept, if there is one and the server has not ended it meanwhile."""
        with self._lock:
            handle, self._first = self._first, None
        if handle is None or _is_ready(handle):
            return handle
        _shut(handle)
        return None

    def _connect_again(self, context: str = _ALLOCATION) -> Any:
        """A further connection, to a disk of the same size."""
        handle = _connect(self.uri, context, again=True)
        try:
            size_bytes = int(handle.get_size())
        except load_nbd().Error as error:
            _shut(handle)
            raise _lost(self.uri, error) from error
        if size_bytes != self.size_bytes:
            _shut(handle)
            raise DriftError(
                f"{self.uri} had {self.size_bytes} bytes, now it has {size_bytes}",
                cure="serve the disk that was there first, or start again: the copy starts from zero",
                code="source-changed",
            )
        return handle

    def _where(self, handle: Any, context: str, is_meant: Callable[[int], bool]) -> list[Extent]:
        try:
            return merged(_extents_where(handle, self.uri, self.size_bytes, context, is_meant), self.size_bytes)
        except load_nbd().Error as error:
            raise _lost(self.uri, error) from error


class _NbdReader(Reader):
    def __init__(self, uri: str, handle: Any) -> None:
        self._uri = uri
        self._error = load_nbd().Error
        self._handle = handle

    def begin(self, request: ReadRequest) -> None:
        try:
            request.tokens = [self._handle.aio_pread(request.place(part), part.offset) for part in request.parts]
        except self._error as error:
            raise _lost(self._uri, error) from error

    def complete(self, request: ReadRequest) -> None:
        deadline = time.monotonic() + STALL_S
        try:
            for token in request.tokens:
                _finish(self._handle, self._uri, token, deadline)
        except self._error as error:
            raise _lost(self._uri, error) from error

    def close(self) -> None:
        _shut(self._handle)


def _connect(uri: str, context: str = _ALLOCATION, *, again: bool = False) -> Any:
    nbd = load_nbd()
    handle = nbd.NBD()
    deadline = time.monotonic() + STALL_S
    has_begun = False
    try:
        handle.add_meta_context(context)
        handle.set_pread_initialize(False)  # a failed read is never used, so its buffer need not be zeroed first
        handle.aio_connect_uri(uri)  # the plain call waits for ever for a server that accepts and then says nothing
        has_begun = True
        while handle.aio_is_connecting():
            _poll(handle, uri, deadline)
    except nbd.Error as error:
        raise (_lost(uri, error) if again else _refused(uri, error, has_begun=has_begun)) from error
    return handle


def _finish(handle: Any, uri: str, token: int, deadline: float) -> None:
    """Wait for one command, but not for ever."""
    while not handle.aio_command_completed(token):
        _poll(handle, uri, deadline)


def _poll(handle: Any, uri: str, deadline: float) -> None:
    if time.monotonic() > deadline:
        raise TemporaryError(
            f"{uri} did not answer for {STALL_S:.0f} s",
            cure="see whether the source hangs; the copy resumes",
            code="source-stalled",
        )
    handle.poll(1000)


def _is_ready(handle: Any) -> bool:
    try:
        handle.poll(0)  # hears of an end that came while nobody listened
    except load_nbd().Error:
        return False
    return bool(handle.aio_is_ready())


def _shut(handle: Any) -> None:
    # Whatever goes wrong at the end of a connection, its reads are done or given up. The good-bye is waited for a
    # little (nbdkit 1.32 ends with an assertion when a connection just breaks), but not as long as libnbd's own call
    # would wait for a server that hangs.
    deadline = time.monotonic() + _GOODBYE_S
    with contextlib.suppress(load_nbd().Error):
        if handle.aio_is_ready() or handle.aio_is_processing():
            handle.aio_disconnect(0)
        while not (handle.aio_is_closed() or handle.aio_is_dead()) and time.monotonic() < deadline:
            handle.poll(200)


def _extents_where(
    handle: Any, uri: str, size_bytes: int, context: str, is_meant: Callable[[int], bool]
) -> list[Extent]:
    found: list[Extent] = []
    position = 0

    def collect(name: str, offset: int, entries: list[int], _error: Any) -> int:
        nonlocal position
        if name != context:
            return 0
        here = offset
        for length, flags in zip(entries[::2], entries[1::2], strict=True):
            if is_meant(flags):
                found.append(Extent(here, length))
            here += length
        position = max(position, here)
        return 0

    while position < size_bytes:
        before = position
        token = handle.aio_block_status(min(_STATUS_BYTES, size_bytes - position), position, collect)
        _finish(handle, uri, token, time.monotonic() + STALL_S)
        if position <= before:
            raise TemporaryError(f"the NBD server gave no block status at {before}", code="source-protocol")
    return found


def _refused(uri: str, error: Any, *, has_begun: bool) -> MtvError:
    cause = getattr(error, "errno", "")
    if cause in ("ENOENT", "EINVAL", "EPERM", "EACCES"):
        # Later in the handshake ENOENT is a server's word for an export that it does not have.
        kind = NoSocket if cause == "ENOENT" and not has_begun else PermanentError
        return kind(f"{uri}: {error}", cure="check the NBD URI and that the server runs", code="source-refused")
    return TemporaryError(f"{uri}: {error}", cure="check that the NBD server runs", code="source-lost")


def _lost(uri: str, error: Any) -> MtvError:
    return TemporaryError(f"{uri}: {error}", cure="the copy resumes when the server is back", code="source-lost")
