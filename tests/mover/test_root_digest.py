"""The root digest: documented, recomputable, the same whether zeros are stored, punched or unknown."""

from __future__ import annotations

import itertools
import struct
from pathlib import Path

import blake3
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mover.geometry import (
    BLOCK_BYTES,
    Extent,
    aligned_outwards,
    block_count,
    cut_into_blocks,
    gaps,
    merged,
    runs_without,
)
from mover.measure import digest_of_path, digest_of_source
from mover.sources.nbd import NbdSource
from tests.mover import moving

SIZES = [1, 511, 4096, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 3 * BLOCK_BYTES + 12345]
extents = st.lists(st.builds(Extent, st.integers(0, 40 * moving.MIB), st.integers(0, 9 * moving.MIB)), max_size=12)
sizes = st.integers(1, 40 * moving.MIB)


def by_the_book(content: bytes) -> str:
    """The recipe of mover.digest, written down a second time."""
    blocks = [content[i : i + 4194304] for i in range(0, len(content), 4194304)]
    root = b"mtv root digest v1\n" + struct.pack("<QI", len(content), 4194304)
    return blake3.blake3(root + b"".join(blake3.blake3(block).digest() for block in blocks)).hexdigest()


@pytest.mark.parametrize("size", SIZES)
def test_a_file_has_the_digest_that_the_recipe_gives(tmp_path: Path, size: int) -> None:
    disk = moving.make_disk(tmp_path / "disk", size, [(0, 100), (size // 2, 5000)])
    assert digest_of_path(disk) == by_the_book(disk.read_bytes())


def test_holes_stored_zeros_and_servers_without_extents_give_one_digest(tmp_path: Path) -> None:
    size = 5 * BLOCK_BYTES + 777
    sparse = moving.make_disk(tmp_path / "sparse", size, [(BLOCK_BYTES + 4096, 70000)])
    full = tmp_path / "full"
    full.write_bytes(sparse.read_bytes())
    found = {digest_of_path(sparse), digest_of_path(full), by_the_book(full.read_bytes())}
    with moving.nbdkit(tmp_path, "file", str(sparse), name="a") as uri:
        found.add(digest_of_source(NbdSource(uri)))
    with moving.nbdkit(tmp_path, "--filter=noextents", "file", str(sparse), name="b") as uri:
        found.add(digest_of_source(NbdSource(uri)))
    assert len(found) == 1


def test_the_size_is_part_of_the_digest(tmp_path: Path) -> None:
    one, two = moving.make_disk(tmp_path / "one", 4096, []), moving.make_disk(tmp_path / "two", 8192, [])
    assert digest_of_path(one) != digest_of_path(two)
    assert digest_of_path(two, size_bytes=4096) == digest_of_path(one)


@given(extents, sizes)
def test_merged_extents_cover_the_same_bytes_once(pieces: list[Extent], size: int) -> None:
    joined = merged(pieces, size)
    assert all(a.end < b.offset for a, b in itertools.pairwise(joined))
    assert all(0 <= extent.offset < extent.end <= size for extent in joined)
    points = {point for piece in pieces for point in (piece.offset, piece.end - 1, piece.end) if 0 <= point < size}
    for point in points:
        wanted = any(piece.offset <= point < piece.end for piece in pieces)
        assert wanted == any(extent.offset <= point < extent.end for extent in joined)


@given(extents, sizes)
def test_blocks_and_runs_between_them_make_up_the_disk(pieces: list[Extent], size: int) -> None:
    joined = merged(pieces, size)
    blocks = list(cut_into_blocks(joined))
    assert merged([part for block in blocks for part in block.parts], size) == joined
    assert all(
        part.offset // BLOCK_BYTES == (part.end - 1) // BLOCK_BYTES == b.block for b in blocks for part in b.parts
    )
    with_data = [block.block for block in blocks]
    without = [index for run in runs_without(with_data, block_count(size)) for index in run]
    assert sorted(with_data + without) == list(range(block_count(size)))


@given(extents, sizes)
def test_gaps_are_what_the_parts_leave(pieces: list[Extent], size: int) -> None:
    parts = merged(pieces, size)
    assert merged([*parts, *gaps(parts, Extent(0, size))], size) == [Extent(0, size)]
    grown = aligned_outwards(parts, Extent(0, size), 4096)
    assert all(part.offset % 4096 == 0 and (part.end % 4096 == 0 or part.end == size) for part in grown)
    assert merged([*parts, *grown], size) == grown
