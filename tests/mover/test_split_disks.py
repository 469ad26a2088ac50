"""Disks that lie in several files: an OVF's chunks, and descriptors with their extents beside them."""

from __future__ import annotations

import gzip
import hashlib
import os
import subprocess
import tarfile
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mover.measure import digest_of_path, digest_of_source
from mover.sources.base import RandomSource, ReadRequest, StreamSource
from mover.sources.disk_file import open_disk_file
from mover.sources.ova import open_ova_member
from mover.sources.uri import UriOptions, source_of
from mtv.model.errors import MtvError, PermanentError
from mtv.model.transfer import DiskFile, OvaMember, Proof
from tests.mover import moving
from tests.mover.moving import MIB

SIZE = 11 * MIB + 512 * 5
AREAS = [(0, 70000), (MIB + 512, 512), (5 * MIB, 3 * MIB), (SIZE - 700, 700)]


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return moving.make_disk(tmp_path_factory.mktemp("disk") / "disk.img", SIZE, AREAS)


def convert(disk: Path, path: Path, subformat: str) -> Path:
    argv = ["qemu-img", "convert", "-f", "raw", "-O", "vmdk", "-o", f"subformat={subformat}", disk, path]
    subprocess.run(argv, check=True)
    return path


def chunked_ova(folder: Path, data: bytes, name: str, cuts: list[int], *, damaged: bool = False) -> str:
    """An OVA with `data` cut at these offsets, a manifest of the pieces, and the URI of the disk in it."""
    borders = [0, *sorted(cuts), len(data)]
    pieces = [data[start:end] for start, end in pairwise(borders)]
    lines = []
    with tarfile.open(folder / "a.ova", "w") as tar:
        for number, piece in enumerate(pieces):
            file = folder / f"{name}.{number:09}"
            file.write_bytes(piece)
            tar.add(file, arcname=file.name)
            digest = hashlib.sha256(piece + (b"!" if damaged and number else b"")).hexdigest()
            lines.append(f"SHA256({file.name})= {digest}\n")
        (folder / "a.mf").write_text("".join(lines))
        tar.add(folder / "a.mf", arcname="a.mf")
    return f"ova:{folder / 'a.ova'}!{name}"


@pytest.mark.parametrize("packing", ["", "gzip", "raw"])
def test_a_disk_in_chunks_is_read_as_one_and_checked_piece_by_piece(tmp_path: Path, disk: Path, packing: str) -> None:
    data = convert(disk, tmp_path / "disk.vmdk", "streamOptimized").read_bytes()
    name = "web.vmdk"
    if packing == "gzip":
        data, name = gzip.compress(data, 1), "web.vmdk.gz"
    if packing == "raw":
        data, name = disk.read_bytes(), "web.img"
    uri = chunked_ova(tmp_path, data, name, [len(data) // 3, len(data) // 2])
    found = source_of(uri, UriOptions())
    ran = moving.run(moving.spec_of(tmp_path / "w", moving.disk_of(found.source, SIZE, tmp_path / "t")))
    assert ran.result.ok, ran.lines
    [done] = ran.result.disks
    assert (done.digest, done.proof) == (digest_of_path(disk), Proof.SOURCE_CHECKED)
    assert done.source_digest.startswith("sha256-of-parts:")


@pytest.fixture
def dropped(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Names of the files whose bytes the page cache was told to drop."""
    names: set[str] = set()
    advise = os.posix_fadvise

    def note(fd: int, offset: int, length: int, advice: int) -> None:
        assert advice == os.POSIX_FADV_DONTNEED
        names.add(Path(f"/proc/self/fd/{fd}").readlink().name)
        advise(fd, offset, length, advice)

    monkeypatch.setattr(os, "posix_fadvise", note)
    return names


@pytest.mark.parametrize("packing", ["", "gzip", "raw"])
def test_a_disk_in_chunks_is_read_a_second_time(tmp_path: Path, disk: Path, dropped: set[str], packing: str) -> None:
    data = disk.read_bytes() if packing == "raw" else convert(disk, tmp_path / "d.vmdk", "streamOptimized").read_bytes()
    name = {"": "web.vmdk", "gzip": "web.vmdk.gz", "raw": "web.img"}[packing]
    if packing == "gzip":
        data = gzip.compress(data, 1)
    found = source_of(chunked_ova(tmp_path, data, name, [len(data) // 3]), UriOptions())
    spec = moving.spec_of(tmp_path / "w", moving.disk_of(found.source, SIZE, tmp_path / "t"))
    ran = moving.run(msgspec.structs.replace(spec, verify_source=True))
    assert ran.result.ok, ran.lines
    assert ran.result.disks[0].reread
    assert "a.ova" in dropped


def test_a_second_read_of_extents_does_not_come_from_the_page_cache(
    tmp_path: Path, disk: Path, dropped: set[str]
) -> None:
    path = convert(disk, tmp_path / "disk.vmdk", "monolithicFlat")
    source = open_disk_file(DiskFile(path=str(path), format="vmdk"))
    source.forget()
    source.close()
    assert dropped == {"disk-flat.vmdk"}


@pytest.mark.parametrize("subformat", ["monolithicFlat", "twoGbMaxExtentSparse"])
def test_an_extent_that_was_written_to_is_copied_anew_though_its_descriptor_is_the_same(
    tmp_path: Path, disk: Path, subformat: str
) -> None:
    path = convert(disk, tmp_path / "disk.vmdk", subformat)
    source = DiskFile(path=str(path), format="vmdk")
    spec = moving.spec_of(tmp_path / "w", moving.disk_of(source, SIZE, tmp_path / "t"))
    assert moving.run(spec).result.ok
    [again] = moving.run(spec).result.disks
    assert again.bytes_read == 0
    changed = moving.make_disk(tmp_path / "changed.img", SIZE, AREAS, seed=8)
    (extent,) = tmp_path.glob("disk-*.vmdk")
    convert(changed, tmp_path / "new.vmdk", subformat)
    next(tmp_path.glob("new-*.vmdk")).rename(extent)
    os.utime(extent, ns=(1, 1))
    ran = moving.run(spec)
    assert ran.result.ok, ran.lines
    assert ran.said("another generation")
    assert moving.same_bytes(changed, tmp_path / "t", SIZE)


def test_a_damaged_piece_and_a_missing_piece_are_refused(tmp_path: Path, disk: Path) -> None:
    data = convert(disk, tmp_path / "disk.vmdk", "streamOptimized").read_bytes()
    found = source_of(chunked_ova(tmp_path, data, "d.vmdk", [9000], damaged=True), UriOptions())
    ran = moving.run(moving.spec_of(tmp_path / "w", moving.disk_of(found.source, SIZE, tmp_path / "t")))
    assert ran.result.failure is not None
    assert ran.result.failure.code == "source-checksum"
    with tarfile.open(tmp_path / "b.ova", "w") as tar:
        tar.add(tmp_path / "d.vmdk.000000001", arcname="d.vmdk.000000001")
    with pytest.raises(PermanentError, match="missing"):
        source_of(f"ova:{tmp_path / 'b.ova'}!d.vmdk", UriOptions())


@settings(max_examples=8)
@given(cuts=st.lists(st.integers(0, SIZE), max_size=5), start=st.integers(0, SIZE - 1), length=st.integers(1, 3 * MIB))
def test_any_read_over_any_cuts_gives_the_same_bytes(
    disk: Path, tmp_path_factory: pytest.TempPathFactory, cuts: list[int], start: int, length: int
) -> None:
    folder = tmp_path_factory.mktemp("cuts")
    length = min(length, SIZE - start)
    data = disk.read_bytes()
    found = source_of(chunked_ova(folder, data, "d.img", cuts), UriOptions())
    assert isinstance(found.source, OvaMember)
    source = open_ova_member(found.source, 0)
    assert isinstance(source, RandomSource)
    assert read(source, start, length) == data[start : start + length]
    source.close()
    for file in folder.iterdir():
        file.unlink()


def read(source: RandomSource, start: int, length: int) -> bytes:
    from mover.geometry import Extent

    content = bytearray(length)
    reader = source.open_reader()
    request = ReadRequest(memoryview(content), start, [Extent(start, length)])
    reader.begin(request)
    reader.complete(request)
    reader.close()
    return bytes(content)


@pytest.mark.parametrize(
    "subformat", ["monolithicFlat", "twoGbMaxExtentFlat", "twoGbMaxExtentSparse", "monolithicSparse", "streamOptimized"]
)
def test_every_kind_of_vmdk_that_qemu_writes_is_read(tmp_path: Path, disk: Path, subformat: str) -> None:
    path = convert(disk, tmp_path / "disk.vmdk", subformat)
    source = open_disk_file(DiskFile(path=str(path), format="vmdk"))
    assert (source.size_bytes, digest_of_source(source)) == (SIZE, digest_of_path(disk))
    assert not isinstance(source, StreamSource)
    source.close()


@pytest.mark.parametrize("subformat", ["twoGbMaxExtentSparse", "twoGbMaxExtentFlat"])
def test_a_disk_over_several_extents_is_one_disk(tmp_path: Path, subformat: str) -> None:
    size = 5 << 30
    big = moving.make_disk(tmp_path / "big", size, [(0, 9), ((2 << 30) - MIB, 2 * MIB), (size - 512, 512)])
    path = convert(big, tmp_path / "disk.vmdk", subformat)
    source = open_disk_file(DiskFile(path=str(path), format="vmdk"))
    assert len(list(tmp_path.glob("disk-*.vmdk"))) == 3
    assert (source.size_bytes, digest_of_source(source)) == (size, digest_of_path(big))
    source.close()


def descriptor(folder: Path, *extents: str, parent: str = "ffffffff") -> Path:
    path = folder / "d.vmdk"
    path.write_text(f"# Disk DescriptorFile\nCID=1\nparentCID={parent}\n\n" + "\n".join(extents) + "\n")
    return path


def test_extents_of_zeros_and_at_an_offset_are_placed_right(tmp_path: Path, disk: Path) -> None:
    flat = tmp_path / "d-flat.vmdk"
    flat.write_bytes(disk.read_bytes())
    path = descriptor(tmp_path, "RW 10 ZERO", 'RW 100 FLAT "d-flat.vmdk" 8', 'RW 20 VMFS "d-flat.vmdk"')
    source = open_disk_file(DiskFile(path=str(path), format="vmdk"))
    data = disk.read_bytes()
    assert read(source, 0, source.size_bytes) == bytes(5120) + data[4096 : 4096 + 51200] + data[:10240]
    source.close()


@pytest.mark.parametrize(
    ("extent", "code"),
    [
        ('RW 8 FLAT "/etc/hostname" 0', "source-external"),
        ('RW 8 FLAT "../d-flat.vmdk" 0', "source-external"),
        ('RW 8 FLAT "link.vmdk" 0', "source-external"),
        ('RW 8 FLAT "folder" 0', "source-external"),
        ('RW 8 FLAT ""', "source-external"),
        ('RW 8 FLAT "gone.vmdk" 0', "source-missing"),
        ('RW 8 FLAT "d-flat.vmdk" 8', "source-truncated"),
        ('RW 8 VMFSSPARSE "d-flat.vmdk"', "source-format"),
        ('RW 8 SPARSE "d-flat.vmdk"', "source-corrupt"),
        ("RW eight ZERO", "source-corrupt"),
        ("RW 0 ZERO", "source-corrupt"),
        ("", "source-corrupt"),
    ],
)
def test_a_descriptor_that_reaches_elsewhere_or_is_unsound_is_refused(tmp_path: Path, extent: str, code: str) -> None:
    (tmp_path / "d-flat.vmdk").write_bytes(bytes(4096))
    (tmp_path / "folder").mkdir()
    (tmp_path / "link.vmdk").symlink_to(tmp_path / "d-flat.vmdk")
    with pytest.raises(MtvError) as caught:
        open_disk_file(DiskFile(path=str(descriptor(tmp_path, extent)), format="vmdk"))
    assert (caught.value.code, bool(caught.value.cure)) == (code, True)


def test_a_descriptor_with_a_parent_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PermanentError) as caught:
        open_disk_file(DiskFile(path=str(descriptor(tmp_path, "RW 8 ZERO", parent="12345678")), format="vmdk"))
    assert caught.value.code == "source-delta"


def test_only_said_formats_and_plain_files_are_read(tmp_path: Path, disk: Path) -> None:
    for form, code in (("qcow2", "source-format"), ("", "source-format"), ("vmdk", "source-format")):
        with pytest.raises(PermanentError) as caught:
            open_disk_file(DiskFile(path=str(disk), format=form))
        assert (caught.value.code, bool(caught.value.cure)) == (code, True)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(PermanentError) as caught:
        open_disk_file(DiskFile(path=str(tmp_path / "pipe"), format="raw"))
    assert caught.value.code == "source-unsuitable"


@settings(max_examples=150)
@given(
    text=st.lists(
        st.sampled_from(["RW", " ", "8", "FLAT", "ZERO", '"x"', "\n", "\t", "SPARSE", "\0", "é"]), max_size=40
    )
)
def test_any_text_as_a_descriptor_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, text: list[str]) -> None:
    path = tmp_path_factory.getbasetemp() / "any.vmdk"
    path.write_text("# Disk DescriptorFile\n" + "".join(text))
    try:
        source = open_disk_file(DiskFile(path=str(path), format="vmdk"))
    except MtvError:
        return
    assert source.size_bytes % 512 == 0
    source.close()
