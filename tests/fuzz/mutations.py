"""Damage to bytes, repeatable from a seed."""

from __future__ import annotations

import random
from collections.abc import Sequence

_NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, (1 << 63) - 1, (1 << 64) - 1)
_MOST_CHANGES = 6
_LONGEST = 1 << 20


def damaged(seeds: Sequence[bytes], words: Sequence[bytes], rng: random.Random) -> bytes:
    """One of the seeds with a few changes; `words` are what the format is made of."""
    data = bytearray(rng.choice(seeds))
    for _ in range(rng.randint(1, _MOST_CHANGES)):
        rng.choice(_CHANGES)(data, seeds, words, rng)
    return bytes(data[:_LONGEST])


def _flip(data: bytearray, _seeds: Sequence[bytes], _words: Sequence[bytes], rng: random.Random) -> None:
    if data:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _number(data: bytearray, _seeds: Sequence[bytes], _words: Sequence[bytes], rng: random.Random) -> None:
    width = rng.choice((1, 2, 4, 8))
    if len(data) >= width:
        at = rng.randrange(len(data) - width + 1) // width * width
        value = rng.choice(_NUMBERS) + rng.randint(-1, 1)
        data[at : at + width] = (value % (1 << 8 * width)).to_bytes(width, "little")


def _cut(data: bytearray, _seeds: Sequence[bytes], _words: Sequence[bytes], rng: random.Random) -> None:
    if data:
        start = rng.randrange(len(data))
        del data[start : start + rng.choice((1, 4, 512, len(data)))]


def _repeat(data: bytearray, _seeds: Sequence[bytes], _words: Sequence[bytes], rng: random.Random) -> None:
    if data:
        start = rng.randrange(len(data))
        piece = bytes(data[start : start + rng.randint(1, 600)])
        at = rng.randrange(len(data))
        data[at:at] = piece * rng.randint(1, 3)


def _word(data: bytearray, _seeds: Sequence[bytes], words: Sequence[bytes], rng: random.Random) -> None:
    at = rng.randrange(len(data) + 1)
    word = rng.choice(words)
    data[at : at + rng.choice((0, len(word)))] = word


def _splice(data: bytearray, seeds: Sequence[bytes], _words: Sequence[bytes], rng: random.Random) -> None:
    other = rng.choice(seeds)
    if data and other:
        data[rng.randrange(len(data)) :] = other[rng.randrange(len(other)) :]


_CHANGES = (_flip, _flip, _number, _number, _cut, _repeat, _word, _splice)
