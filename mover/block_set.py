"""Some of a disk's blocks: a byte for each block of the disk, so a terabyte takes 256 KiB however many they are."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator


class BlockSet(Collection[int]):
    """Indexes of blocks, ascending. It does not change."""

    def __init__(self, flags: bytes | bytearray) -> None:
        """`flags` has a 1 for each block that is meant and a 0 for each other one."""
        self._flags = bytes(flags)

    def __contains__(self, index: object) -> bool:
        return isinstance(index, int) and 0 <= index < len(self._flags) and bool(self._flags[index])

    def __iter__(self) -> Iterator[int]:
        index = self._flags.find(1)
        while index >= 0:
            yield index
            index = self._flags.find(1, index + 1)

    def __len__(self) -> int:
        return self._flags.count(1)

    def without(self, indexes: Iterable[int]) -> BlockSet:
        """The same, but for these blocks."""
        left = bytearray(self._flags)
        for index in indexes:
            if index in self:
                left[index] = 0
        return BlockSet(left)
