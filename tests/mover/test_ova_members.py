"""Disks inside OVAs: every kind of VMDK is read where it lies; damaged ones are refused, not half copied."""

from __future__ import annotations

import gzip
import hashlib
import os
import struct
import subprocess
import tarfile
import threading
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mover.ledger import Ledger
from mover.measure import digest_of_path
from mover.sources.base import RandomSource, ReadRequest, StreamSource
from mover.sources.ova import open_ova_member
from mover.sources.vmdk_stream import decode_stream
from mover.sources.window import Window
from mtv.model.errors import MtvError, PermanentError
from mtv.model.transfer import OvaMember, Proof
from tests.mover import moving
from tests.mover.moving import MIB

SIZE = 21 * MIB + 512 * 7
AREAS = [(0, 70000), (MIB + 512, 512), (5 * MIB, 6 * MIB), (SIZE - 700, 700)]


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return moving.make_disk(tmp_path_factory.mktemp("disk") / "disk.img", SIZE, AREAS)


def vmdk_of(disk: Path, path: Path, subformat: str = "streamOptimized") -> Path:
    """The disk as a VMDK, written by qemu-img."""
    argv = ["qemu-img", "convert", "-f", "raw", "-O", "vmdk", "-o", f"subformat={subformat}", disk, path]
    subprocess.run(argv, check=True)
    return path


def ova_with(path: Path, file: Path, **options: str) -> OvaMember:
    """An OVA with an OVF before the disk and padding behind, and the disk as a member of it."""
    with tarfile.open(path, "w") as tar:
        for name in (Path(__file__), file, Path(__file__)):
            tar.add(name, arcname=name.name)
    with tarfile.open(path) as tar:
        found = tar.getmember(file.name)
    return OvaMember(path=str(path), offset=found.offset_data, length=found.size, **options)  # type: ignore[arg-type]


def checksum_of(file: Path, name: str = "sha256") -> str:
    return f"{name}:{hashlib.new(name, file.read_bytes()).hexdigest()}"


@pytest.mark.parametrize(
    ("subformat", "packing"), [("streamOptimized", ""), ("streamOptimized", "gzip"), ("monolithicSparse", "")]
)
def test_a_vmdk_in_an_ova_gives_the_disk_it_was_made_from(
    tmp_path: Path, disk: Path, subformat: str, packing: str
) -> None:
    file = vmdk_of(disk, tmp_path / "disk.vmdk", subformat)
    if packing:
        file = tmp_path / "disk.vmdk.gz"
        file.write_bytes(gzip.compress((tmp_path / "disk.vmdk").read_bytes()))
    member = ova_with(tmp_path / "a.ova", file, compression=packing, checksum=checksum_of(file))
    ran = moving.run(moving.spec_of(tmp_path / "w", moving.disk_of(member, SIZE, tmp_path / "t")))
    assert ran.result.ok, ran.lines
    [done] = ran.result.disks
    assert moving.same_bytes(disk, tmp_path / "t", SIZE)
    assert done.digest == digest_of_path(disk)
    assert (done.proof, done.source_digest) == (Proof.SOURCE_CHECKED, member.checksum)
    assert done.bytes_data < SIZE


@pytest.mark.parametrize(("kind", "packing"), [("raw", ""), ("raw", "gzip"), ("vmdk", "")])
def test_a_flat_disk_is_read_as_it_is(tmp_path: Path, disk: Path, packing: str, kind: str) -> None:
    file = tmp_path / "disk-flat.vmdk"
    file.write_bytes(gzip.compress(disk.read_bytes(), 1) if packing else disk.read_bytes())
    member = ova_with(tmp_path / "a.ova", file, format=kind, compression=packing, checksum=checksum_of(file, "sha1"))
    ran = moving.run(moving.spec_of(tmp_path / "w", moving.disk_of(member, SIZE, tmp_path / "t")))
    assert ran.result.ok, ran.lines
    assert moving.same_bytes(disk, tmp_path / "t", SIZE)
    assert ran.result.disks[0].proof is Proof.SOURCE_CHECKED


def test_a_gzip_stream_resumes_by_reading_again_but_writes_only_what_is_missing(tmp_path: Path, disk: Path) -> None:
    file = tmp_path / "disk.gz"
    file.write_bytes(gzip.compress(vmdk_of(disk, tmp_path / "disk.vmdk").read_bytes(), 1))
    member = ova_with(tmp_path / "a.ova", file, compression="gzip")
    spec = moving.spec_of(tmp_path / "w", moving.disk_of(member, SIZE, tmp_path / "t"))
    first = moving.run(spec).result.disks[0]
    journal = (tmp_path / "w" / "journal-0.bin").stat().st_size
    again = moving.run(spec).result.disks[0]
    assert (again.digest, again.bytes_read) == (first.digest, first.bytes_read)
    assert again.bytes_resumed > 0
    assert (tmp_path / "w" / "journal-0.bin").stat().st_size == journal


def refusal(tmp_path: Path, member: OvaMember, size: int = SIZE) -> str:
    """The code of the failure; the target must not be called good."""
    ran = moving.run(moving.spec_of(tmp_path / "w", moving.disk_of(member, size, tmp_path / "t")))
    assert not ran.result.ok
    assert ran.result.disks == ()
    assert ran.result.failure is not None
    assert not ran.result.failure.retryable
    return ran.result.failure.code


def test_a_manifest_that_does_not_agree_is_refused(tmp_path: Path, disk: Path) -> None:
    file = vmdk_of(disk, tmp_path / "disk.vmdk")
    member = ova_with(tmp_path / "a.ova", file, checksum="sha256:" + "0" * 64)
    assert refusal(tmp_path, member) == "source-checksum"


@pytest.mark.parametrize("mended", ["after the copy has failed", "while it is copied"])
def test_what_a_damaged_file_gave_is_not_resumed_once_the_file_is_mended(
    tmp_path: Path, disk: Path, monkeypatch: pytest.MonkeyPatch, mended: str
) -> None:
    """The mended file passes its check, so a block of the damaged one would be called source-checked."""
    file = tmp_path / "disk-flat.vmdk"
    file.write_bytes(disk.read_bytes())
    member = ova_with(tmp_path / "a.ova", file, format="raw", checksum=checksum_of(file))
    stored = threading.Event()

    def flip() -> None:
        with (tmp_path / "a.ova").open("r+b") as ova:
            ova.seek(member.offset + 100)
            byte = ova.read(1)[0]
            ova.seek(member.offset + 100)
            ova.write(bytes([byte ^ 1]))

    def store(ledger: Ledger, index: int, digest: bytes, count: int) -> None:
        real_store(ledger, index, digest, count)
        if index == 0:
            stored.set()

    def check(window: Window, checksum: str, should_stop: Callable[[], bool]) -> str:
        assert stored.wait(300)
        if mended == "while it is copied":
            flip()
        return real_check(window, checksum, should_stop)

    real_store, real_check = Ledger.stored, Window.check
    spec = moving.spec_of(tmp_path / "w", moving.disk_of(member, SIZE, tmp_path / "t"))
    flip()
    os.utime(tmp_path / "a.ova", ns=(1, 1))
    with monkeypatch.context() as late:
        late.setattr(Ledger, "stored", store)
        late.setattr(Window, "check", check)
        failure = moving.run(spec).result.failure
    assert failure is not None
    assert (failure.code, failure.retryable) == ("source-checksum", False)
    if mended == "after the copy has failed":
        flip()
    ran = moving.run(spec)
    assert ran.result.ok, ran.lines
    assert moving.same_bytes(disk, tmp_path / "t", SIZE)
    assert (ran.result.disks[0].proof, ran.result.disks[0].bytes_resumed) == (Proof.SOURCE_CHECKED, 0)


def test_an_ova_that_was_cut_off_is_refused(tmp_path: Path, disk: Path) -> None:
    member = ova_with(tmp_path / "a.ova", vmdk_of(disk, tmp_path / "disk.vmdk"))
    with (tmp_path / "a.ova").open("r+b") as file:
        file.truncate(member.offset + member.length - 1)
    assert refusal(tmp_path, member) == "source-truncated"


def test_a_disk_of_another_size_is_refused(tmp_path: Path, disk: Path) -> None:
    member = ova_with(tmp_path / "a.ova", vmdk_of(disk, tmp_path / "disk.vmdk"))
    assert refusal(tmp_path, member, SIZE + 512) == "source-size"


def test_a_descriptor_without_its_extent_is_refused(tmp_path: Path, disk: Path) -> None:
    member = ova_with(tmp_path / "a.ova", vmdk_of(disk, tmp_path / "disk.vmdk", "monolithicFlat"))
    assert refusal(tmp_path, member) == "source-format"


def test_a_snapshot_delta_is_refused(tmp_path: Path, disk: Path) -> None:
    vmdk_of(disk, tmp_path / "base.vmdk", "monolithicSparse")
    argv = ["qemu-img", "create", "-f", "vmdk", "-F", "vmdk", "-b", "base.vmdk", tmp_path / "delta.vmdk"]
    subprocess.run(argv, check=True, capture_output=True)
    assert refusal(tmp_path, ova_with(tmp_path / "a.ova", tmp_path / "delta.vmdk")) == "source-delta"


def test_a_gzip_sparse_vmdk_is_refused(tmp_path: Path, disk: Path) -> None:
    (tmp_path / "d.gz").write_bytes(gzip.compress(vmdk_of(disk, tmp_path / "d", "monolithicSparse").read_bytes(), 1))
    assert refusal(tmp_path, ova_with(tmp_path / "a.ova", tmp_path / "d.gz", compression="gzip")) == "source-corrupt"


def content_of(member: OvaMember, size: int) -> bytes:
    """All bytes of a member's disk, by whichever way it is read."""
    source = open_ova_member(member, size)
    try:
        content = bytearray(size)
        if isinstance(source, StreamSource):
            for piece in source.open_stream():
                content[piece.offset : piece.offset + len(piece.data)] = piece.data
        else:
            assert isinstance(source, RandomSource)
            reader = source.open_reader()
            request = ReadRequest(memoryview(content), 0, source.extents())
            reader.begin(request)
            reader.complete(request)
        return bytes(content)
    finally:
        source.close()


SMALL = 3 * MIB
PREAMBLE = 128 * 512


class Bytes(bytes):
    """Bytes that a failing test does not print."""

    def __repr__(self) -> str:
        return f"<{len(self)} bytes>"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes, Path]:
    folder = tmp_path_factory.mktemp("small")
    disk = moving.make_disk(folder / "disk.img", SMALL, [(0, 70000), (2 * MIB, 200000)])
    return Bytes(disk.read_bytes()), Bytes(vmdk_of(disk, folder / "disk.vmdk").read_bytes()), folder


@settings(max_examples=150)
@given(st.data())
def test_a_damaged_vmdk_is_refused_or_right(small: tuple[bytes, bytes, Path], data: st.DataObject) -> None:
    content, packed, folder = small
    damaged = bytearray(packed)
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(packed) - 1))] ^= data.draw(st.integers(1, 255))
    path = folder / f"damaged-{data.draw(st.integers(0, 7))}"
    path.write_bytes(damaged)
    member = OvaMember(path=str(path), offset=0, length=len(damaged))
    try:
        found = content_of(member, SMALL)
    except MtvError:
        return
    assert found == content or damaged[:4] != b"KDMV" or _points_elsewhere(damaged, packed)


def _points_elsewhere(damaged: bytearray, packed: bytes) -> bool:
    """Grain tables and directories carry no checksum in this format: a hole made of a grain cannot be seen there.

    That is what the manifest's checksum is for (a test of its own); grain data itself must never come out changed.
    """
    changed = [i for i in range(len(packed)) if damaged[i] != packed[i]]
    return any(i >= len(packed) - 8192 or i < 65536 for i in changed)


def stream_with_footer(content: bytes) -> bytes:
    """A streamOptimized VMDK as vSphere exports it, written from the format's description: tables after the grains."""
    capacity, grain = len(content) // 512, 128

    def header(directory: int) -> bytes:
        fields = (b"KDMV", 3, 0x30001, capacity, grain, 1, 1, 512, 0, directory, 128, 0, b"\n \r\n", 1)
        return struct.pack("<4sIIQQQQIQQQB4sH", *fields).ljust(512, b"\0")

    def marker(sectors: int, kind: int) -> bytes:
        return struct.pack("<QII", sectors, 0, kind).ljust(512, b"\0")

    text = b"# Disk DescriptorFile\nCID=12345678\nparentCID=ffffffff\n"
    out = bytearray((header(2**64 - 1) + text).ljust(128 * 512, b"\0"))
    table = [0] * 512
    for number in range(-(-capacity // grain)):
        data = content[number * grain * 512 : (number + 1) * grain * 512]
        if any(data):
            table[number] = len(out) // 512
            packed = zlib.compress(data.ljust(grain * 512, b"\0"))
            out += struct.pack("<QI", number * grain, len(packed)) + packed
            out += bytes(-len(out) % 512)
    table_at = len(out) // 512 + 1
    out += marker(4, 1) + struct.pack("<512I", *table)
    directory_at = len(out) // 512 + 1
    out += marker(1, 2) + struct.pack("<I", table_at).ljust(512, b"\0")
    out += marker(1, 3) + header(directory_at) + bytes(512)
    return bytes(out)


def decoded(stream: bytes, size: int) -> bytes:
    """What the stream decoder makes of it; reading past the end is an error, as on a connection."""
    position = 0

    def read(length: int) -> bytes:
        nonlocal position
        piece = stream[position : position + length]
        position += length
        if len(piece) < length:
            raise PermanentError("the stream ended", code="ended")
        return piece

    content = bytearray(size)
    for piece in decode_stream(read, size_bytes=size, what="test"):
        content[piece.offset : piece.offset + len(piece.data)] = piece.data
    return bytes(content)


def test_a_stream_with_its_tables_at_the_end_is_read_both_ways(
    small: tuple[bytes, bytes, Path], exported: bytes, tmp_path: Path
) -> None:
    content, stream = small[0], exported
    path = tmp_path / "stream.vmdk"
    path.write_bytes(stream)
    assert decoded(stream, SMALL) == content
    assert content_of(OvaMember(path=str(path), offset=0, length=len(stream)), SMALL) == content
    raw = tmp_path / "raw"  # and what we wrote is what others read too
    subprocess.run(["qemu-img", "convert", "-f", "vmdk", "-O", "raw", path, raw], check=True)
    assert raw.read_bytes() == content


@pytest.fixture(scope="module")
def exported(small: tuple[bytes, bytes, Path]) -> bytes:
    return Bytes(stream_with_footer(small[0]))


SHARES = st.integers(0, 9999)
"""Where to cut a stream, in ten-thousandths of its length."""


@settings(max_examples=60)
@given(share=SHARES)
def test_a_stream_that_ends_early_is_never_taken_for_whole(exported: bytes, share: int) -> None:
    kept = len(exported) * share // 10000
    for stream in (exported[:kept], exported[:kept].ljust(len(exported), b"\0")):
        if stream == exported:
            continue  # nothing but zeros was cut off
        with pytest.raises(PermanentError):
            decoded(stream, SMALL)


@settings(max_examples=60)
@given(share=SHARES)
def test_a_stream_of_qemu_that_ends_early_has_all_grains_or_is_refused(
    small: tuple[bytes, bytes, Path], share: int
) -> None:
    content, packed, _ = small
    kept = len(packed) * share // 10000
    # Zeros in the place of the tables are an empty disk's tables: that only the manifest's checksum can tell.
    padded = [packed[:kept].ljust(len(packed), b"\0")] if kept >= PREAMBLE else []
    for stream in (packed[:kept], *padded):
        try:
            found = decoded(stream, SMALL)
        except PermanentError:
            continue
        assert found == content


@settings(max_examples=15)
@given(
    sectors=st.integers(1, 20000),
    areas=st.lists(st.tuples(st.integers(0, 10 * MIB), st.integers(1, MIB)), max_size=5),
    subformat=st.sampled_from(["streamOptimized", "monolithicSparse"]),
)
def test_any_disk_survives_the_way_through_a_vmdk(
    tmp_path_factory: pytest.TempPathFactory, sectors: int, areas: list[tuple[int, int]], subformat: str
) -> None:
    folder = tmp_path_factory.mktemp("any")
    size = sectors * 512
    disk = moving.make_disk(folder / "disk", size, [(o, n) for o, n in areas if o < size])
    file = vmdk_of(disk, folder / "disk.vmdk", subformat)
    member = OvaMember(path=str(file), offset=0, length=file.stat().st_size)
    assert content_of(member, size) == disk.read_bytes()
