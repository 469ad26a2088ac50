"""What people and the store get from a mover's log."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtv.model.transfer import Progress
from mtv.orchestration.pods.log import LogTail, describe, read_lines, size

LINES = st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["a", "b", "c d", ""])), max_size=30)


@given(LINES, st.integers(1, 7), st.integers(0, 6))
def test_each_line_is_given_once_however_the_tails_overlap(lines, step: int, overlap: int):
    stamped = sorted({(f"2026-01-01T00:00:0{second}Z", text) for second, text in lines})
    tail = LogTail()
    given_lines: list[str] = []
    for end in range(0, len(stamped) + step, step):
        piece = stamped[max(0, end - step - overlap) : end]
        given_lines += tail.new("\n".join(f"{stamp} {text}" for stamp, text in piece))
    assert given_lines == [text for _, text in stamped]


def progress(disk: str, done: int) -> str:
    return json.dumps({"event": "progress", "disk": disk, "phase": "copy", "bytes_done": done, "bytes_total": 100})


def test_one_line_per_disk_says_the_newest():
    told = read_lines([progress("d0", 10), progress("d1", 5), progress("d0", 60)])
    assert [(p.disk, p.bytes_done) for p in told.progress] == [("d0", 60), ("d1", 5)]
    assert told.lines == ("d0: copy, 60 % (60 B of 100 B)", "d1: copy, 5 % (5 B of 100 B)")


def test_what_is_no_event_of_ours_is_passed_on_as_it_is():
    told = read_lines(["Traceback (most recent call last):", "[1, 2]", "", '{"event": "progress", "bytes_done": "x"}'])
    assert told.lines == (
        "Traceback (most recent call last):",
        "[1, 2]",
        '{"event": "progress", "bytes_done": "x"}',
    )
    assert told.progress == ()


def test_errors_are_said_with_code_and_disk_and_results_are_not_repeated():
    error = {"event": "error", "code": "read-back", "disk": "d0", "message": "block 7 differs"}
    told = read_lines([json.dumps(error), '{"event": "result", "ok": false}', '{"event": "log", "message": "hello"}'])
    assert told.lines == ("error: [read-back] d0: block 7 differs", "hello")


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (150 * 2**20, "150 MiB"), (3.5 * 2**40, "3.5 TiB")],
)
def test_sizes_have_binary_units(size_bytes, text):
    assert size(size_bytes) == text


def test_progress_says_rate_and_time_left():
    line = describe(
        Progress(disk="d0", phase="copy", bytes_done=2**30, bytes_total=2**31, rate_bytes_per_s=200 * 2**20, eta_s=3725)
    )
    assert line == "d0: copy, 50 % (1.0 GiB of 2.0 GiB), 200 MiB/s, 1:02:05 left"
