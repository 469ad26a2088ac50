"""A disk inside an OVA, or beside an OVF, read where it lies: nothing is unpacked."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from mover.sources.base import Piece, Source, StreamSource
from mover.sources.chain import ChainedWindow
from mover.sources.raw import RawSource
from mover.sources.vmdk import SparseVmdkSource
from mover.sources.vmdk_descriptor import is_descriptor, open_descriptor
from mover.sources.vmdk_header import is_sparse_vmdk
from mover.sources.vmdk_stream import decode_stream
from mover.sources.window import Window
from mtv.model.errors import PermanentError
from mtv.model.transfer import FileRange, OvaMember

_PIECE_BYTES = 1 << 20
_READ_BYTES = 1 << 20


def open_ova_member(member: OvaMember, size_bytes: int) -> Source:
    """The disk as whatever it is found to be; `size_bytes` is the disk's size by the OVF, 0 where there is none."""
    window = _window_of(member)
    try:
        return _open(member, window, size_bytes)
    except BaseException:
        window.close()
        raise


def _window_of(member: OvaMember) -> Window:
    first = FileRange(path=member.path, offset=member.offset, length=member.length, checksum=member.checksum)
    return ChainedWindow((first, *member.chunks)) if member.chunks else Window.of(first)


def _open(member: OvaMember, window: Window, size_bytes: int) -> Source:
    if member.format not in ("vmdk", "raw") or member.compression not in ("", "gzip"):
        raise PermanentError(
            f"{member.path}: a disk of format {member.format!r} {member.compression} cannot be read",
            cure="export it as a streamOptimized VMDK",
            code="source-format",
        )
    checksum = "parts" if isinstance(window, ChainedWindow) and window.has_checksums else member.checksum
    if member.compression:
        return GzipSource(window, size_bytes, is_vmdk=member.format == "vmdk", checksum=checksum)
    start = window.read(min(512, window.length), 0)
    if member.format == "vmdk" and is_sparse_vmdk(start):
        return SparseVmdkSource(window, checksum=checksum, size_bytes=size_bytes)
    if member.format == "vmdk" and is_descriptor(start):
        if member.offset == 0 and member.length == Path(member.path).stat().st_size and not member.chunks:
            return open_descriptor(window)
        raise PermanentError(
            f"{member.path}: the member is a VMDK descriptor that points at other files",
            cure="name the extent it points at (…-flat.vmdk) as the disk's file, or export as streamOptimized",
            code="source-format",
        )
    return RawSource(window, checksum=checksum)


class GzipSource(StreamSource):
    """A gzip'ed member: only readable from its start. Inside is raw bytes or a streamOptimized VMDK."""

    def __init__(self, window: Window, size_bytes: int, *, is_vmdk: bool, checksum: str) -> None:
        self.window = window
        self.files = window.files
        self.size_bytes = size_bytes
        self.has_own_checksum = bool(checksum)
        self._is_vmdk = is_vmdk
        self._checksum = checksum

    def open_stream(self) -> Iterator[Piece]:
        """Pieces of the inflated disk."""
        stream = _Gunzip(self.window)
        if self._is_vmdk:
            yield from decode_stream(stream.read_exactly, size_bytes=self.size_bytes, what=str(self.window.path))
        else:
            for offset in range(0, self.size_bytes, _PIECE_BYTES):
                yield Piece(offset, stream.read_exactly(min(_PIECE_BYTES, self.size_bytes - offset)))
        stream.expect_end(padded=self._is_vmdk)

    def check_own_checksum(self, should_stop: Callable[[], bool]) -> str:
        """The manifest's checksum over the stored bytes."""
        return self.window.check(self._checksum, should_stop)

    def forget(self) -> None:
        """Drop the file from the page cache."""
        self.window.forget()

    def close(self) -> None:
        """Close the file."""
        self.window.close()


class _Gunzip:
    def __init__(self, window: Window) -> None:
        self._window = window
        self._position = 0
        self._engine = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
        self._ready = io.BytesIO()

    def read_exactly(self, length: int) -> bytes:
        pieces: list[bytes] = []
        missing = length
        while missing:
            piece = self._ready.read(missing)
            if not piece and not (piece := self._refill(missing)):
                raise self._broken("truncated")
            pieces.append(piece)
            missing -= len(piece)
        return b"".join(pieces)

    def expect_end(self, *, padded: bool) -> None:
        """Run to the end, so that gzip's own checksum is seen; more bytes are an error unless it may be padded."""
        while self._ready.read(_READ_BYTES) or self._refill(_READ_BYTES):
            if not padded:
                raise self._broken("longer than the disk")
        if not self._engine.eof:
            raise self._broken("truncated")

    def _refill(self, wanted: int) -> bytes:
        while not self._engine.eof:
            packed = self._engine.unconsumed_tail
            if not packed:
                step = min(_READ_BYTES, self._window.length - self._position)
                if not step:
                    return b""
                packed = self._window.read(step, self._position)
                self._position += step
            try:
                data = self._engine.decompress(packed, _READ_BYTES)
            except zlib.error as error:
                raise self._broken(str(error)) from error
            if data:
                self._ready = io.BytesIO(data)
                return self._ready.read(wanted)
        return b""

    def _broken(self, why: str) -> PermanentError:
        return PermanentError(
            f"{self._window.path}: its gzip stream is damaged ({why})",
            cure="fetch the file again",
            code="source-corrupt",
        )
