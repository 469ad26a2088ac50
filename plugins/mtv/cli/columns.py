"""Text in columns, for terminals and for `column`, `grep` and `less` alike."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mtv.model.text import printable


def table(header: Sequence[str], rows: Iterable[Sequence[object]], *, right: Sequence[int] = ()) -> str:
    """Return rows under a header; columns in `right` are aligned right."""
    cells = [list(header), *([printable(value) for value in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    lines = []
    for row in cells:
        padded = (
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  ".join(padded).rstrip())
    return "\n".join(lines)
