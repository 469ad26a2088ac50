"""Was this NTFS volume left clean? Read from its own records: the dirty flag, and whether Windows hibernates on it.

boot sector ─▶ $MFT ─┬▶ record 3 $Volume: flags, bit 0 is dirty
                     └▶ record 5 root folder ─▶ hiberfil.sys ─▶ its first bytes: "hibr" while Windows sleeps
A volume that cannot be followed to its end is reported as unreadable, not as clean.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import msgspec

from mover.convert.volumes import Read

_VOLUME, _ROOT = 3, 5
_ATTRIBUTE_LIST, _VOLUME_INFORMATION, _DATA, _INDEX_ROOT, _INDEX_ALLOCATION = 0x20, 0x70, 0x80, 0x90, 0xA0
_END = 0xFFFFFFFF
_DIRTY = 1
_MAX_INDEX_BYTES = 64 << 20
_HIBERNATED = (b"hibr", b"HIBR")


class Unreadable(Exception):
    """The volume's records contradict themselves."""


class State(msgspec.Struct, frozen=True, kw_only=True):
    """`dirty`: Windows wants to check the volume. `hibernated`: Windows sleeps on it (fast start-up does that too)."""

    dirty: bool
    hibernated: bool


def state_of(read: Read, offset: int) -> State:
    """The state of the NTFS volume that begins at `offset`. Raises `Unreadable`."""
    try:
        volume = _Ntfs(read, offset)
        return State(dirty=volume.is_dirty(), hibernated=volume.is_hibernated())
    except (struct.error, IndexError, ZeroDivisionError, OverflowError, ValueError) as error:
        raise Unreadable(f"NTFS structures end too early ({error})") from error


class _Ntfs:
    def __init__(self, read: Read, offset: int) -> None:
        self._read = read
        self._offset = offset
        boot = read(offset, 512)
        if boot[3:11] != b"NTFS    ":
            raise Unreadable("no NTFS boot sector")
        self._sector = struct.unpack_from("<H", boot, 11)[0]
        per_cluster = boot[13]
        self._cluster = self._sector * (per_cluster if per_cluster <= 128 else 1 << (256 - per_cluster))
        self._record = self._size(boot[64])
        if self._sector not in (512, 1024, 2048, 4096) or not 512 <= self._record <= 65536 or self._cluster > 1 << 21:
            raise Unreadable("impossible NTFS geometry")
        mft = struct.unpack_from("<Q", boot, 48)[0] * self._cluster
        first = self._fixed(read(offset + mft, self._record), b"FILE")
        self._mft_runs = self._runs(self._attribute(first, _DATA))

    def is_dirty(self) -> bool:
        information = self._resident(self._attribute(self._file(_VOLUME), _VOLUME_INFORMATION))
        flags: int = struct.unpack_from("<H", information, 10)[0]
        return bool(flags & _DIRTY)

    def is_hibernated(self) -> bool:
        number = self._find(b"hiberfil.sys")
        return number is not None and self._start_of_file(number)[:4] in _HIBERNATED

    def _size(self, code: int) -> int:
        """Sizes are clusters, or as a negative number a power of two."""
        return 1 << (256 - code) if code >= 128 else code * self._cluster

    def _file(self, number: int) -> bytes:
        return self._fixed(self._bytes_of(self._mft_runs, number * self._record, self._record), b"FILE")

    def _fixed(self, record: bytes, magic: bytes) -> bytes:
        """A record with the last two bytes of each sector put back from where NTFS keeps them."""
        if record[:4] != magic:
            raise Unreadable(f"a {magic.decode()} record is missing")
        at, count = struct.unpack_from("<HH", record, 4)
        fixed = bytearray(record)
        for index in range(1, count):
            end = index * 512
            if fixed[end - 2 : end] != record[at : at + 2]:
                raise Unreadable("a record was written only in part")
            fixed[end - 2 : end] = record[at + 2 * index : at + 2 * index + 2]
        return bytes(fixed)

    def _attributes(self, record: bytes) -> Iterator[bytes]:
        at = struct.unpack_from("<H", record, 20)[0]
        while struct.unpack_from("<I", record, at)[0] != _END:
            length = struct.unpack_from("<I", record, at + 4)[0]
            if length < 24:
                raise Unreadable("an attribute has no length")
            yield record[at : at + length]
            at += length

    def _attribute(self, record: bytes, kind: int) -> bytes:
        """The unnamed attribute of a kind, wherever it is kept; folders' index attributes are named $I30."""
        if attribute := self._own_attribute(record, kind):
            return attribute
        if listing := self._own_attribute(record, _ATTRIBUTE_LIST):
            entries = self._resident(listing) if not listing[8] else self._bytes_of(self._runs(listing), 0, 65536)
            at = 0
            while at + 26 <= len(entries):
                entry_kind, length = struct.unpack_from("<IH", entries, at)
                first_cluster, where = struct.unpack_from("<QQ", entries, at + 8)
                if entry_kind == kind and not first_cluster:
                    elsewhere = self._own_attribute(self._file(where & 0xFFFFFFFFFFFF), kind)
                    if elsewhere:
                        return elsewhere
                if length < 26:
                    break
                at += length
        raise Unreadable(f"an attribute of type {kind:#x} is missing")

    def _own_attribute(self, record: bytes, kind: int) -> bytes | None:
        named = kind in (_INDEX_ROOT, _INDEX_ALLOCATION)
        for attribute in self._attributes(record):
            if struct.unpack_from("<I", attribute)[0] == kind and bool(attribute[9]) == named:
                return attribute
        return None

    def _resident(self, attribute: bytes) -> bytes:
        length, at = struct.unpack_from("<IH", attribute, 16)
        return attribute[at : at + length]

    def _runs(self, attribute: bytes) -> list[tuple[int, int]]:
        """(first byte on the volume or -1 for a hole, bytes) of each piece of a non-resident attribute."""
        if not attribute[8]:
            raise Unreadable("a large attribute is kept as a small one")
        at = struct.unpack_from("<H", attribute, 32)[0]
        cluster = 0
        runs: list[tuple[int, int]] = []
        while attribute[at]:
            length_width, place_width = attribute[at] & 15, attribute[at] >> 4
            length = int.from_bytes(attribute[at + 1 : at + 1 + length_width], "little")
            place = attribute[at + 1 + length_width : at + 1 + length_width + place_width]
            cluster += int.from_bytes(place, "little", signed=True)
            runs.append((cluster * self._cluster if place_width else -1, length * self._cluster))
            at += 1 + length_width + place_width
        return runs

    def _bytes_of(self, runs: list[tuple[int, int]], position: int, length: int) -> bytes:
        out = b""
        for start, size in runs:
            if position >= size:
                position -= size
                continue
            part = min(size - position, length - len(out))
            out += b"\0" * part if start < 0 else self._read(self._offset + start + position, part)
            position = 0
            if len(out) >= length:
                break
        return out

    def _find(self, name: bytes) -> int | None:
        """The record number of a file in the root folder."""
        wanted = name.decode().lower()
        root = self._file(_ROOT)
        top = self._resident(self._attribute(root, _INDEX_ROOT))
        block_size = struct.unpack_from("<I", top, 8)[0]
        if (number := _entry_named(top, 16, wanted)) is not None:
            return number
        large = self._own_attribute(root, _INDEX_ALLOCATION)
        if large is None:
            return None
        if not 512 <= block_size <= 65536:
            raise Unreadable("impossible index block size")
        runs = self._runs(large)
        total = min(sum(size for _, size in runs), _MAX_INDEX_BYTES)
        for position in range(0, total, block_size):
            block = self._bytes_of(runs, position, block_size)
            if block[:4] != b"INDX":
                continue  # a block that is not in use
            if (number := _entry_named(self._fixed(block, b"INDX"), 24, wanted)) is not None:
                return number
        return None

    def _start_of_file(self, number: int) -> bytes:
        data = self._attribute(self._file(number), _DATA)
        return self._bytes_of(self._runs(data), 0, 4096) if data[8] else self._resident(data)


def _entry_named(block: bytes, header: int, wanted: str) -> int | None:
    """The file number of the entry with that name in an index node whose header is at `header`."""
    first, used = struct.unpack_from("<II", block, header)
    at, end = header + first, header + used
    while at + 16 <= min(end, len(block)):
        reference, length, key_length, flags = struct.unpack_from("<QHHH", block, at)
        if flags & 2 or length < 16:
            return None
        if key_length >= 66:
            name = block[at + 16 + 66 : at + 16 + 66 + 2 * block[at + 16 + 64]]
            if name.decode("utf-16-le", errors="replace").lower() == wanted:
                return int(reference & 0xFFFFFFFFFFFF)
        at += length
    return None
