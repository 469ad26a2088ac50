"""The root digest: one value for a disk's content, the same whether its zeros are stored, punched or never read.

Anybody can recompute it:

1. Cut the disk into blocks of 4 MiB (4194304 bytes); the last one may be shorter.
2. The digest of a block is BLAKE3 (32 bytes) over its bytes; a hole counts as the zeros that it reads as.
3. The root is BLAKE3 over the bytes `mtv root digest v1\\n`, the disk's size as an unsigned 64-bit little-endian
   number, the block size as an unsigned 32-bit little-endian number, and the block digests in order.
   It is written as 64 lower-case hex digits.

Since the digest of a zero block is known beforehand, holes cost nothing. `mtv-mover digest` computes it for a file,
a block device or an NBD server.
"""

from __future__ import annotations

import struct
from functools import lru_cache

from blake3 import blake3

from mover.buffers import ZEROS
from mover.geometry import BLOCK_BYTES, block_count, block_extent

ALGORITHM = "blake3-4MiB-v1"
"""Name of the scheme in journals; another scheme never resumes."""
DIGEST_BYTES = 32
_ROOT_PREFIX = b"mtv root digest v1\n"


def block_digest(data: bytes | memoryview) -> bytes:
    """Digest of one block's bytes."""
    return blake3(data).digest()


@lru_cache(maxsize=16)
def zero_digest(length: int) -> bytes:
    """Digest of `length` zero bytes, at most one block."""
    return block_digest(ZEROS[:length])


class BlockDigests:
    """The digests of all blocks of one disk; a block never set counts as zeros."""

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self.count = block_count(size_bytes)
        self._digests = bytearray(zero_digest(BLOCK_BYTES) * self.count)
        if self.count:
            last = self.count - 1
            self[last] = zero_digest(block_extent(last, size_bytes).length)

    def __getitem__(self, index: int) -> bytes:
        return bytes(self._digests[index * DIGEST_BYTES : (index + 1) * DIGEST_BYTES])

    def __setitem__(self, index: int, digest: bytes) -> None:
        if not 0 <= index < self.count or len(digest) != DIGEST_BYTES:
            raise IndexError(f"block {index} of {self.count}, digest of {len(digest)} bytes")
        self._digests[index * DIGEST_BYTES : (index + 1) * DIGEST_BYTES] = digest

    def is_zero(self, index: int) -> bool:
        """Whether the block's digest is that of zeros."""
        return self[index] == zero_digest(block_extent(index, self.size_bytes).length)

    def root(self) -> str:
        """The root digest, hex."""
        hasher = blake3(_ROOT_PREFIX)
        hasher.update(struct.pack("<QI", self.size_bytes, BLOCK_BYTES))
        hasher.update(self._digests)
        return hasher.hexdigest()
