"""CSV sheets: UTF-8 with or without byte order mark, `,` or `;` (also said by a first line `sep=;`), one header row."""

from __future__ import annotations

import csv
import io
import re

from mtv.plan.problems import Problem, did_you_mean

_TABS = "tabs stand between the columns: save the file as CSV, with commas or semicolons"


_SEPARATOR_HINT = re.compile(r"sep=([,;])[ \t]*[\r\n]")
"""A first line that some spreadsheets write, and that all of them read as the separator's name."""


class SheetRow:
    """One row: the line it begins on, as an editor counts, and its filled cells by column name."""

    __slots__ = ("cells", "line", "width")

    def __init__(self, line: int, cells: dict[str, str], width: int) -> None:
        self.line = line
        self.cells = cells
        self.width = width


class Sheet:
    """A CSV file: its columns (name → cell number from 1), the numbers of all cells below a name, and rows."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.columns: dict[str, int] = {}
        self.named: set[int] = set()
        self.header_line = 1
        self.rows: list[SheetRow] = []
        self.problems: list[Problem] = []

    def place(self, row: SheetRow, column: str) -> tuple[int, int]:
        """Return line and cell of a column in a row; a cell that the row lacks is its last one."""
        return row.line, max(1, min(self.columns.get(column, 1), row.width))

    def problem(self, row: SheetRow, column: str, message: str, cure: str = "") -> Problem:
        """Make a problem about one cell."""
        return Problem(self.file, *self.place(row, column), message, cure)


def read_sheet(data: bytes, file: str, known_columns: frozenset[str]) -> Sheet:
    """Read a sheet; faults are collected in `problems`, rows that could be read are there all the same."""
    sheet = Sheet(file)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        sheet.problems.append(Problem(file, line, 1, "the text is not UTF-8", "save the file as CSV UTF-8"))
        return sheet
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        sheet.problems.append(Problem(file, line, 1, "a zero byte in the text", "save the file as CSV UTF-8"))
        return sheet
    hint = _SEPARATOR_HINT.match(text)
    delimiter = hint.group(1) if hint else _delimiter(text)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    line = 1
    try:
        for cells in reader:
            is_hint = hint is not None and line == 1
            if not is_hint and any(cell.strip() for cell in cells):
                if not sheet.columns:
                    _take_header(sheet, line, cells, known_columns)
                else:
                    _take_row(sheet, line, cells)
            line = reader.line_num + 1
    except csv.Error as error:
        sheet.problems.append(
            Problem(file, line, 1, f"this row cannot be read: {error}", "close the quotes; write a quote inside as two")
        )
    if not sheet.columns and not sheet.problems:
        sheet.problems.append(Problem(file, 1, 1, "the file is empty", "begin with a header row such as wave,vm"))
    return sheet


def _delimiter(text: str) -> str:
    """Tell `;` from `,` by the header, the first row that is not blank; quoted parts do not count."""
    header = next((line for line in re.split(r"[\r\n]+", text) if line.strip(" \t,;")), "")
    unquoted = "".join(header.split('"')[::2])
    return ";" if unquoted.count(";") > unquoted.count(",") else ","


def _take_header(sheet: Sheet, line: int, cells: list[str], known: frozenset[str]) -> None:
    sheet.header_line = line
    for number, cell in enumerate(cells, start=1):
        name = cell.strip()
        if not name:
            continue
        sheet.named.add(number)
        if name not in known:
            cure = _TABS if "\t" in name else did_you_mean(name, known)
            sheet.problems.append(Problem(sheet.file, line, number, f"unknown column {name}", cure))
        elif name in sheet.columns:
            sheet.problems.append(
                Problem(sheet.file, line, number, f"column {name} stands here a second time", "keep one of them")
            )
            continue
        sheet.columns[name] = number
    if not sheet.columns:  # a header of blanks only
        sheet.columns[""] = 1


def _take_row(sheet: Sheet, line: int, cells: list[str]) -> None:
    width = len(cells)
    for number, text in enumerate(cells, start=1):
        if number not in sheet.named and text.strip():
            cure = "put text that contains the separator in quotes, or name the column"
            sheet.problems.append(Problem(sheet.file, line, number, f"a cell without a column: {text.strip()!r}", cure))
    filled = {}
    for name, number in sheet.columns.items():
        if number <= width:
            cell = cells[number - 1].strip()
            if cell:
                filled[name] = cell
    sheet.rows.append(SheetRow(line, filled, width))
