"""A sparse VMDK that claims more than it holds: what it says of itself is compared before memory is taken for it."""

from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from mover.sources.ova import open_ova_member
from mover.sources.vmdk import SparseVmdkSource
from mover.sources.window import whole_file
from mtv.model.errors import PermanentError
from mtv.model.transfer import OvaMember
from tests.mover.moving import MIB

SECTOR = 512
GRAIN = 128
TABLE = 512
PLAIN, STREAM = 1, 0x30001
"""Flags: grains as they are, or deflated behind markers."""


def header(capacity_bytes: int, *, directory: int, flags: int = PLAIN) -> bytes:
    """The first sector of a VMDK without a descriptor; `directory` is a sector."""
    fields = (b"KDMV", 1, flags, capacity_bytes // SECTOR, GRAIN, 0, 0, TABLE, 0, directory, GRAIN, 0)
    return struct.pack("<4sIIQQQQIQQQB4sH", *fields, b"\n \r\n", int(flags == STREAM)).ljust(SECTOR, b"\0")


@contextmanager
def little_memory() -> Iterator[None]:
    """What the block takes for a while is far less than what the file claims."""
    tracemalloc.start()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 * MIB


@pytest.mark.parametrize("table_at", [0, 1], ids=["holes", "one-table-for-all"])
def test_a_disk_of_a_terabyte_in_a_small_file_takes_little_memory(tmp_path: Path, table_at: int) -> None:
    size = 1 << 40
    tables = size // (SECTOR * GRAIN * TABLE)
    table = struct.pack("<512I", *[3] * TABLE)
    path = tmp_path / "disk.vmdk"
    path.write_bytes(header(size, directory=5) + table + struct.pack("<I", table_at) * tables)
    window = whole_file(path)
    with little_memory(), closing(SparseVmdkSource(window)) as source:
        assert source.size_bytes == size
        assert source.sector_of(size // SECTOR // GRAIN - 1) == (3 if table_at else 0)


def test_a_disk_of_another_size_is_refused_before_its_tables_are_looked_for(tmp_path: Path) -> None:
    path = tmp_path / "disk.vmdk"
    path.write_bytes(header(1 << 46, directory=1))
    with pytest.raises(PermanentError) as refused:
        open_ova_member(OvaMember(path=str(path), offset=0, length=SECTOR), MIB)
    assert refused.value.code == "source-size"


def test_a_grain_that_claims_to_be_large_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "disk.vmdk"
    with path.open("wb") as file:
        file.write(header(MIB, directory=1, flags=STREAM))
        file.write(struct.pack("<I", 2).ljust(SECTOR, b"\0"))
        file.write(struct.pack("<512I", 6, *[0] * (TABLE - 1)))
        file.write(struct.pack("<QI", 0, 60 * MIB))
        file.truncate(64 * MIB)
    with closing(SparseVmdkSource(whole_file(path))) as source, little_memory():
        with pytest.raises(PermanentError) as refused:
            source.read_grain(0)
        assert refused.value.code == "source-corrupt"
