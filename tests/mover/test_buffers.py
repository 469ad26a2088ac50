"""What the kernel was asked for with the memory of blocks; it tells so in /proc/self/smaps."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest

from mover.buffers import PAGE_BYTES, ZEROS, block_buffer
from mover.geometry import BLOCK_BYTES

HUGE_PAGES, NOT_FOR_CHILDREN = "hg", "dc"


def address_of(buffer: memoryview) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))


def flags_at(address: int) -> set[str]:
    """Flags of the mapping that holds the address."""
    is_meant = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        first, _, rest = line.partition(" ")
        if first.count("-") == 1 and not first.endswith(":"):
            begin, end = (int(part, 16) for part in first.split("-"))
            is_meant = begin <= address < end
        elif is_meant and first == "VmFlags:":
            return set(rest.split())
    raise AssertionError(f"{address:#x} is mapped nowhere")


@pytest.mark.skipif(not Path("/sys/kernel/mm/transparent_hugepage").exists(), reason="a kernel without huge pages")
def test_blocks_ask_for_huge_pages_and_are_not_shared_with_children() -> None:
    buffer = block_buffer()
    address = address_of(buffer)
    assert address % PAGE_BYTES == 0
    assert {HUGE_PAGES, NOT_FOR_CHILDREN} <= flags_at(address)


def test_zeros_are_a_block_of_zeros_that_nobody_can_write() -> None:
    assert bytes(BLOCK_BYTES) == ZEROS
    assert ZEROS.readonly
