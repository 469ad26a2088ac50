"""Each reader on its corpus and on some hundred damaged copies of it; `python -m tests.fuzz` goes on for longer."""

from __future__ import annotations

import pytest

from tests.fuzz.readers import READERS, Reader
from tests.fuzz.run import seeds_in, try_bytes, try_case

CASES = 400


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_what_is_damaged_is_read_or_refused(reader: Reader) -> None:
    for data in seeds_in(reader.corpus):
        try_bytes(reader, data)
    for seed in range(CASES):
        try_case(reader, seed)


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_the_corpus_is_small(reader: Reader) -> None:
    assert 1 <= len(seeds_in(reader.corpus)) <= 40
    assert sum(map(len, seeds_in(reader.corpus))) < 300_000
