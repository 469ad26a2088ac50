"""Tables and paragraphs. On a terminal they are folded at its width; in a pipe or a file each row is one whole line,
for `column`, `grep` and `less` alike. Nothing is ever cut.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence

from rich.cells import cell_len

from mtv.model.text import printable

_GAP = "  "
_NARROWEST = 8
"""No column is folded below this many cells: where they do not fit even so, rows stay whole."""

_WORD = re.compile(r"\S+|\s+")
_PART = re.compile(r"[^./_,:;-]*[./_,:;-]+|[^./_,:;-]+")
"""Of a word that is longer than a line: ids are broken after a dot or a hyphen."""


def terminal_width() -> int | None:
    """Return how many cells a line of standard output has; None when it is no terminal: then lines are not folded."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def table(
    header: Sequence[str], rows: Iterable[Sequence[object]], *, right: Sequence[int] = (), width: int | None = None
) -> str:
    """Return rows under a header; columns in `right` are aligned right. `width` in cells; else that of the terminal."""
    width = width or terminal_width()
    cells = [list(header), *([printable(value) for value in row] for row in rows)]
    wanted = [max(cell_len(row[column]) for row in cells) for column in range(len(header))]
    widths = wanted if width is None else _fitted(wanted, width - len(_GAP) * (len(wanted) - 1))
    lines = []
    for row in cells:
        folded = [_folded(cell, room) for cell, room in zip(row, widths, strict=True)]
        for height in range(max(map(len, folded))):
            line = (
                _padded(part[height] if height < len(part) else "", room, right=column in right)
                for column, (part, room) in enumerate(zip(folded, widths, strict=True))
            )
            lines.append(_GAP.join(line).rstrip())
    return "\n".join(lines)


def paragraph(text: object, *, first: str = "", rest: str = "", width: int | None = None) -> str:
    """Return a text whose first line begins with `first` and, where it is folded, all others with `rest`."""
    width = width or terminal_width()
    shown = printable(text)
    if width is None:
        return f"{first}{shown}"
    room = max(width - max(cell_len(first), cell_len(rest)), _NARROWEST)
    lines = _folded(shown, room)
    return "\n".join(f"{rest if number else first}{line}" for number, line in enumerate(lines))


def _fitted(wanted: Sequence[int], room: int) -> list[int]:
    """Take from the widest columns what `room` cells do not hold; narrow columns stay whole."""
    columns = len(wanted)
    for each in sorted(wanted):
        share = room // columns
        if each > share:
            return list(wanted) if share < _NARROWEST else [min(one, share) for one in wanted]
        room, columns = room - each, columns - 1
    return list(wanted)


def _folded(text: str, room: int) -> list[str]:
    """Return a text in lines of at most `room` cells, folded between words; a longer word is broken."""
    if cell_len(text) <= room:
        return [text]
    lines = [""]
    for piece in _pieces(text, room):
        if cell_len(lines[-1] + piece.rstrip()) > room:
            lines[-1] = lines[-1].rstrip()
            lines.append("")
        lines[-1] += piece
    return [*lines[:-1], lines[-1].rstrip()]


def _pieces(text: str, room: int) -> Iterator[str]:
    """Yield what is not to be broken: words, parts of those that are longer than a line, else characters."""
    for word in _WORD.findall(text):
        for part in _PART.findall(word) if cell_len(word) > room else [word]:
            if cell_len(part) > room:
                yield from part
            else:
                yield part


def _padded(text: str, room: int, *, right: bool) -> str:
    space = " " * (room - cell_len(text))
    return space + text if right else text + space
