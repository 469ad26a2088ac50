"""What is fuzzed: a reader of bytes, what it is fed from, and what must be true of what it reads."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from mover.buffers import block_buffer
from mover.convert import hazards, ntfs, virt_v2v
from mover.convert.log_inspection import inspection_of
from mover.convert.volumes import volumes_of
from mover.flow import LIMIT_NAME, governor_of
from mover.geometry import block_count, cut_into_blocks
from mover.journal import Journal, believed_header, journal_path, read_journal
from mover.journal_format import Header, replay
from mover.sources.base import RandomSource, ReadRequest
from mover.sources.imageio import areas_in
from mover.sources.ova_index import find_disk
from mover.sources.vmdk import SparseVmdkSource
from mover.sources.vmdk_descriptor import open_descriptor
from mover.sources.vmdk_stream import decode_stream
from mover.sources.window import whole_file
from mover.transfer import read_spec
from mtv.model.errors import MtvError, PermanentError
from mtv.model.transfer import TransferSpec
from mtv.orchestration.pods.log import LogTail, read_lines
from mtv.providers.ova.appliance import read_appliance
from tests.mover.journals import told

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
    header = believed_header(path)
    if header is None:
        header = Header(identity="d", generation="1", size_bytes=1 << 24, algorithm="a", target="t", epoch=1)
        replayed = replay((), header.size_bytes)
    elif header.size_bytes > 1 << 40:
        return  # its digests alone would fill memory; a real spec names the size, and another size starts anew
    else:
        _, replayed = read_journal(path)
    assert len(replayed.proven) == replayed.digests.count == block_count(header.size_bytes)
    opened = Journal.open(path, header, prepare=lambda: None)
    opened.journal.close()
    assert told(opened.replayed) == told(replayed), "what is read and what is resumed from differ"


def _progress(data: bytes, _folder: Path) -> None:
    text = data.decode("utf-8", errors="replace")
    tail = LogTail()
    lines = tail.new(text)
    told = read_lines(lines)
    assert all(isinstance(line, str) for line in told.lines)
    assert tail.new(text) == [], "a line is given twice"


def _volumes(data: bytes, folder: Path) -> None:
    path = folder / "disk"
    path.write_bytes(data)
    with hazards.reading(path) as (read, size):
        for volume in volumes_of(read, size, disk=0, device="/dev/sda"):
            assert 0 <= volume.offset < max(size, 1), "a volume begins behind the disk's end"
            if volume.kind == "ntfs":
                with contextlib.suppress(ntfs.Unreadable):
                    ntfs.state_of(read, volume.offset)


def _ova(data: bytes, folder: Path) -> None:
    path = folder / "vm.ova"
    path.write_bytes(data)
    found = find_disk(path, "disk1.vmdk")
    for piece in (found.member, *found.member.chunks):
        assert piece.offset >= 0
        assert piece.length >= 0


def _extents(data: bytes, _folder: Path) -> None:
    following = 0
    for area in areas_in(data, "disk"):
        assert area.start == following, "a gap would be taken for zeros"
        following += area.length


def _limit(data: bytes, folder: Path) -> None:
    (folder / LIMIT_NAME).write_bytes(data)
    spec = TransferSpec(
        plan="p", run="1", vm="v", epoch=1, disks=(), work_dir=str(folder), credentials_dir="", limit_bytes_per_s=1
    )
    bucket = governor_of(spec, lambda _said: None).bucket
    assert bucket.rate >= 0
    assert bucket.ready_in() >= 0


def _spec(data: bytes, folder: Path) -> None:
    (folder / "spec.json").write_bytes(data)
    spec = read_spec(folder / "spec.json")
    assert all(disk.size_bytes > 0 for disk in spec.disks)
    for disk in spec.disks:
        assert all(offset + length <= disk.size_bytes for offset, length in disk.dirty or ())
        assert journal_path(folder, disk.id).parent == folder, "an id is no path"
    governor_of(spec, lambda _said: None)


def _v2v(data: bytes, folder: Path) -> None:
    log = folder / "log"
    log.write_bytes(data)
    said = [message for line in data.splitlines(keepends=True) if (message := virt_v2v._parse(line))]
    assert all(isinstance(message.message, str) for message in said)
    inspection = inspection_of(virt_v2v.read_facts(log), log)
    assert all(filesystem.size_bytes >= 0 for filesystem in inspection.filesystems)


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
    Reader(
        "volumes",
        _volumes,
        (
            b"FILE", b"INDX", b"NTFS    ", b"-FVE-FS-", b"EFI PART", b"\x55\xaa", bytes(64), b"\xff" * 8, b"\x71\x7f",
            b"\xff\xff\xff\x7f", b"LUKS\xba\xbe",
        ),
        _HERE / "volumes",
    ),
    Reader(
        "ova",
        _ova,
        (b"ustar\x0000", b"disk1.vmdk", b"0" * 11, b"\x80" + b"\xff" * 7, b"SHA1(a)= 00"),
        _HERE / "ova",
    ),
    Reader(
        "extents",
        _extents,
        (b'{"start":', b'"length":', b"[" * 2000, b"-1", b"1e30", b"9" * 30, b"null"),
        _HERE / "extents",
    ),
    Reader("limit", _limit, (b"GiB/s", b"9" * 60, b".", b"\xff", b"off", b" ", b"\x00"), _HERE / "limit"),
    Reader(
        "spec",
        _spec,
        (b'"dirty":', b'"id":"../x"', b"-1", b"9" * 18, b"[" * 2000, b'"24:00"', b"null", b"\xff"),
        _HERE / "spec",
    ),
    Reader(
        "v2v",
        _v2v,
        (b'{"message":"', b'"type":"error"}', b"i_root = ", b"bsize=9", b"\xff", b"[" * 2000),
        _HERE / "v2v",
    ),
)  # fmt: skip
