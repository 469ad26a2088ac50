"""What is wrong with a plan file: where, what, and how to mend it."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from mtv.model.near_names import nearest


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
    if near := nearest(word, choices):
        return f"did you mean {near}?"
    return f"known here: {', '.join(choices)}" if choices else ""
