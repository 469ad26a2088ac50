"""What is fuzzed: a reader of bytes, what it is fed from, and what must be true of what it reads."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from mover.buffers import block_buffer
from mover.digest import BlockDigests
from mover.geometry import block_count, cut_into_blocks
from mover.journal import Header, Journal, read_journal, replay
from mover.sources.base import RandomSource, ReadRequest
from mover.sources.vmdk import SparseVmdkSource
from mover.sources.vmdk_descriptor import open_descriptor
from mover.sources.vmdk_stream import decode_stream
from mover.sources.window import whole_file
from mtv.model.errors import MtvError, PermanentError
from mtv.orchestration.pods.log import LogTail, read_lines
from mtv.providers.ova.appliance import read_appliance

_HERE = Path(__file__).parent / "corpus"
_SOME_HEADER = Header(identity="d", generation="1", size_bytes=1 << 24, algorithm="a", target="t", epoch=1)
_READ_AT_MOST = 8
"""Blocks of a disk whose size is the file's own claim."""


class Reader(NamedTuple):
    """`read` gets damaged bytes and a folder; it may raise an `MtvError` and nothing else. `words` are what its format
    is made of; its seeds are the files of `corpus`.
    """

    name: str
    read: Callable[[bytes, Path], None]
    words: tuple[bytes, ...]
    corpus: Path


def _vmdk(data: bytes, folder: Path) -> None:
    path = folder / "disk.vmdk"
    path.write_bytes(data)
    with contextlib.suppress(MtvError):  # the stream decoder has to see it too
        window = whole_file(path)
        try:
            _read_blocks(SparseVmdkSource(window))
        finally:
            window.close()
    position = 0

    def read(length: int) -> bytes:
        nonlocal position
        if position + length > len(data):
            raise PermanentError("the stream ends", code="source-truncated")
        position += length
        return data[position - length : position]

    size = int.from_bytes(data[12:20], "little") * 512
    following = 0
    for piece in decode_stream(read, size_bytes=size, what="stream"):
        assert following <= piece.offset, "grains overlap"
        following = piece.offset + len(piece.data)
        assert following <= size, "a grain ends behind the disk"


def _descriptor(data: bytes, folder: Path) -> None:
    path = folder / "disk.vmdk"
    path.write_bytes(data)
    (folder / "disk-flat.vmdk").write_bytes(bytes(65536))
    window = whole_file(path)
    try:
        source = open_descriptor(window)
    except MtvError:
        window.close()
        raise
    try:
        _read_blocks(source)
    finally:
        source.close()


def _read_blocks(source: RandomSource) -> None:
    extents = source.extents()
    assert all(0 <= extent.offset < extent.end <= source.size_bytes for extent in extents)
    reader = source.open_reader()
    buffer = block_buffer()
    for work in itertools.islice(cut_into_blocks(extents), _READ_AT_MOST):
        request = ReadRequest(buffer, work.block * len(buffer), work.parts)
        reader.begin(request)
        reader.complete(request)


def _ovf(data: bytes, folder: Path) -> None:
    path = folder / "vm.ovf"
    path.write_bytes(data)
    for vm in read_appliance(path, folder):
        assert vm.id
        assert vm.name is not None
        for disk in vm.disks:
            assert disk.size_bytes > 0
            assert "/" not in disk.id, "an id is no path"


def _journal(data: bytes, folder: Path) -> None:
    path = folder / "journal.bin"
    path.write_bytes(data)
    try:
        header, records = read_journal(path)
    except PermanentError:
        header, records = (
            Header(identity="d", generation="1", size_bytes=1 << 24, algorithm="a", target="t", epoch=1),
            [],
        )
    if header.size_bytes > 1 << 40:
        return  # its digests alone would fill memory; a real spec names the size, and another size starts anew
    count = block_count(header.size_bytes)
    assert all(record.first + record.blocks <= count for record in records)
    digests, proven, _ = replay(records, header.size_bytes)
    assert isinstance(digests, BlockDigests)
    assert len(proven) == count
    opened = Journal.open(path, header, prepare=lambda: None)
    opened.journal.close()
    assert opened.records == records, "what is read and what is resumed from differ"


def _progress(data: bytes, _folder: Path) -> None:
    text = data.decode("utf-8", errors="replace")
    tail = LogTail()
    lines = tail.new(text)
    told = read_lines(lines)
    assert all(isinstance(line, str) for line in told.lines)
    assert tail.new(text) == [], "a line is given twice"


READERS = (
    Reader("vmdk", _vmdk, (b"KDMV", b"\n \r\n", b"parentCID=ffffffff", b"\xff" * 8, bytes(512)), _HERE / "vmdk"),
    Reader(
        "descriptor",
        _descriptor,
        (b"RW 128 FLAT ", b'"disk-flat.vmdk"', b"RW 0 ZERO", b" SPARSE ", b"../", b"\n", b"99999999999"),
        _HERE / "descriptor",
    ),
    Reader(
        "ovf",
        _ovf,
        (
            b"<Item>", b"</Item>", b"<!DOCTYPE a [<!ENTITY b 'c'>]>", b"&b;", b"ovf:href=", b"../../etc/passwd", b"-1",
            b"1e999", b"byte * 2^99", b"ovf:/disk/", b"\xff", b"<rasd:ResourceType>17</rasd:ResourceType>",
        ),
        Path(__file__).parents[1] / "providers" / "samples" / "cot",
    ),
    Reader("journal", _journal, (b"MTVJRNL1", b'"size_bytes":', bytes(53), b"\xff" * 8), _HERE / "journal"),
    Reader(
        "progress",
        _progress,
        (b'{"event":"progress"', b'"disk":', b"\n", b"NaN", b"1e400", b"\xff\xfe", b"\x1b", b"[" * 2000),
        _HERE / "progress",
    ),
)  # fmt: skip
