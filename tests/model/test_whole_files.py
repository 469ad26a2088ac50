"""A file that is written by one process and read by others, which see all of it or what was there before."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from mtv.model.whole_files import write_whole

WRITERS = 8
SIZE = 200_000


def test_a_reader_finds_what_one_of_several_writers_wrote_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    together = Barrier(WRITERS)

    def write(writer: int) -> None:
        together.wait(timeout=300)
        for _ in range(10):
            write_whole(path, bytes([writer]) * SIZE)

    write_whole(path, bytes(SIZE))
    with ThreadPoolExecutor(WRITERS) as pool:
        written = [pool.submit(write, writer) for writer in range(WRITERS)]
        seen = []
        while not all(done.done() for done in written):
            seen.append(path.read_bytes())
    for done in written:
        done.result()
    assert {(len(content), len(set(content))) for content in seen} <= {(SIZE, 1)}
    assert [found.name for found in tmp_path.iterdir()] == ["plan.json"]


def test_a_file_that_cannot_be_put_in_place_leaves_what_was_there_and_no_draft(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "kept").write_bytes(b"kept")
    with pytest.raises(OSError, match="directory"):
        write_whole(tmp_path / "folder", b"new")
    assert [found.name for found in tmp_path.iterdir()] == ["folder"]
    assert (tmp_path / "folder" / "kept").read_bytes() == b"kept"


@pytest.mark.parametrize(("wanted", "found"), [(0o666, 0o640), (0o600, 0o600)], ids=["as-the-umask-has-it", "private"])
def test_the_mode_is_as_asked_less_the_umask(tmp_path: Path, wanted: int, found: int) -> None:
    before = os.umask(0o027)
    try:
        write_whole(tmp_path / "report", b"", mode=wanted)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "report").stat().st_mode) == found
