"""What is wrong with a plan file: where, what, and how to mend it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

import msgspec


class Problem(msgspec.Struct, frozen=True):
    """One fault. `line` and `column` count from 1; in a CSV they are the row and the cell, as a spreadsheet shows.

    A `line` of 0 means that the place is not known, and it is left out of the text.
    """

    file: str
    line: int
    column: int
    message: str
    cure: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return f"{place}: {self.message}" + (f" — {self.cure}" if self.cure else "")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return a cure that names the nearest known word, or all of them when none is near."""
    choices = sorted(known)
    snake = "".join(f"_{c.lower()}" if c.isupper() else c for c in word).replace("-", "_").strip("_")
    near = difflib.get_close_matches(snake, choices, n=1, cutoff=0.6) or difflib.get_close_matches(
        word, choices, n=1, cutoff=0.6
    )
    if near:
        return f"did you mean {near[0]}?"
    return f"known here: {', '.join(choices)}" if choices else ""
