"""Tables and paragraphs: folded on a terminal, whole lines elsewhere, nothing lost."""

from __future__ import annotations

import os
import pty
import struct
import sys
import termios
from fcntl import ioctl
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from mtv.cli import columns
from mtv.cli.columns import paragraph, table

HEADER = ("VM", "CPUS", "WHAT")
ROWS = [("web-1", 2, "The VM boots with Secure Boot and has a very long label of many words"), ("db", 16, "short")]


def test_a_table_is_folded_between_words_and_its_narrow_columns_stay_whole() -> None:
    assert table(HEADER, ROWS, right=(1,), width=40).splitlines() == [
        "VM     CPUS  WHAT",
        "web-1     2  The VM boots with Secure",
        "             Boot and has a very long",
        "             label of many words",
        "db       16  short",
    ]


def test_ids_that_are_longer_than_their_column_are_broken_after_a_mark() -> None:
    found = table(("ID", "N"), [("ovirt.disk.illegal_or_locked_status", 1)], width=20)
    assert found.splitlines() == ["ID                 N", "ovirt.disk.        1", "illegal_or_", "locked_status"]


def test_columns_that_cannot_be_made_to_fit_are_left_whole() -> None:
    rows = [["a" * 20] * 9]
    assert table(["H"] * 9, rows, width=80) == table(["H"] * 9, rows, width=10_000)


def test_wide_characters_and_combining_marks_do_not_shift_the_columns() -> None:
    lines = table(("VM", "N"), [("東京", 1), ("e\u0301", 2), ("abcd", 3)], width=80).splitlines()
    assert lines == ["VM    N", "東京  1", "e\u0301     2", "abcd  3"]


def test_a_paragraph_is_indented_where_it_is_folded() -> None:
    text = "Warning: The VM boots with Secure Boot: web-1, web-2"
    assert paragraph(text, first="  ", rest="    ", width=30).splitlines() == [
        "  Warning: The VM boots with",
        "    Secure Boot: web-1, web-2",
    ]


def test_without_a_terminal_every_row_is_a_line_whatever_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    long = ", ".join(f"web-{number}" for number in range(500))
    assert columns.terminal_width() is None
    assert table(("VM", "WHICH"), [("x", long)]).splitlines()[1] == f"x   {long}"
    assert paragraph(long, first="  ", rest="    ") == f"  {long}"


def test_on_a_terminal_its_width_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    reader, writer = pty.openpty()
    try:
        ioctl(writer, termios.TIOCSWINSZ, struct.pack("HHHH", 25, 70, 0, 0))
        with Path(f"/dev/fd/{writer}").open("w") as terminal:
            monkeypatch.setattr(sys, "stdout", terminal)
            monkeypatch.setattr(sys, "__stdout__", terminal)
            assert columns.terminal_width() == 70
    finally:
        os.close(reader)
        os.close(writer)


words = st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S", "Mn", "Zs"]), max_size=60)


@given(st.lists(st.tuples(words, words, words), min_size=1, max_size=4), st.integers(min_value=30, max_value=90))
def test_whatever_is_folded_keeps_all_its_characters_and_fits(rows: list[tuple[str, ...]], width: int) -> None:
    lines = table(("A", "B", "C"), rows, width=width).splitlines()
    assert all(cell_len(line) <= width for line in lines)
    cells = [cell for row in [("A", "B", "C"), *rows] for cell in row]
    assert sorted("".join("".join(lines).split())) == sorted("".join("".join(cells).split()))
