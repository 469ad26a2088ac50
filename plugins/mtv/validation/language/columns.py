"""Columns of attribute values whose kinds may differ from row to row, as typed arrays side by side.

JSON has kinds that Python mixes up (`True == 1`) and pandas too (a missing value turns integers into floats), so each
row's kind is kept, and each kind's values in an array of its own; comparing is then one vector operation per kind.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Bools = npt.NDArray[np.bool_]


class Kind(IntEnum):
    """What a value is. MISSING is no value at all; SIZED is a list or an object."""

    MISSING = 0
    NULL = 1
    BOOL = 2
    NUMBER = 3
    TEXT = 4
    SIZED = 5


class Column(NamedTuple):
    """One value per row. `number` also holds 1 or 0 for BOOL; `size` is the length of TEXT and SIZED."""

    kind: npt.NDArray[np.int8]
    number: npt.NDArray[np.float64]
    text: npt.NDArray[np.object_]
    size: npt.NDArray[np.float64]


_ABSENT = object()


_KINDS: Mapping[type, Kind] = {
    type(None): Kind.NULL,
    bool: Kind.BOOL,
    int: Kind.NUMBER,
    float: Kind.NUMBER,
    str: Kind.TEXT,
    list: Kind.SIZED,
    tuple: Kind.SIZED,
    dict: Kind.SIZED,
}
"""By a value's exact type, which is what JSON brings; kinds of other values are looked for one by one."""


def column_of(values: Iterable[Any]) -> Column:
    """Return the column of some JSON values; `absent()` stands for a missing one."""
    values = list(values)
    known = _KINDS.get
    kind = np.array([known(type(value)) or _kind_of(value) for value in values], dtype=np.int8)
    number = np.zeros(len(values), dtype=np.float64)
    text = np.full(len(values), "", dtype=np.object_)
    size = np.zeros(len(values), dtype=np.float64)
    # Mostly a column is of one kind: only what that kind needs is filled in.
    if len(rows := _rows(kind, Kind.BOOL, Kind.NUMBER)):
        number[rows] = [_as_float(values[row]) for row in rows.tolist()]
    if len(rows := _rows(kind, Kind.TEXT, Kind.SIZED)):
        size[rows] = [len(values[row]) for row in rows.tolist()]
    if len(rows := _rows(kind, Kind.TEXT)):
        text[rows] = [values[row] for row in rows.tolist()]
    return Column(kind=kind, number=number, text=text, size=size)


def _rows(kind: npt.NDArray[np.int8], *wanted: Kind) -> npt.NDArray[np.intp]:
    found = kind == wanted[0]
    for other in wanted[1:]:
        found |= kind == other
    return np.flatnonzero(found)


def _kind_of(value: Any) -> Kind:
    """Return the kind of a value whose type is not one of JSON's own, such as a mapping that is no dict."""
    if isinstance(value, (int, float)):
        return Kind.NUMBER
    if isinstance(value, str):
        return Kind.TEXT
    return Kind.SIZED if isinstance(value, (list, tuple, Mapping)) else Kind.MISSING


def _as_float(value: int | float) -> float:
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


def constant(value: Any, length: int) -> Column:
    """Return a column that holds one value in every row."""
    one = column_of([value])
    return Column(
        kind=np.repeat(one.kind, length),
        number=np.repeat(one.number, length),
        text=np.repeat(one.text, length),
        size=np.repeat(one.size, length),
    )


def absent() -> object:
    """Return the mark of a missing value."""
    return _ABSENT


def attribute(row: Any, parts: Sequence[str]) -> Any:
    """Return the value that a path leads to, the mark of a missing one where it leads nowhere."""
    for part in parts:
        if not isinstance(row, Mapping) or part not in row:
            return _ABSENT
        row = row[part]
    return row


def items_at(row: Any, parts: Sequence[str]) -> list[Any] | None:
    """Return the items of the list that a path leads to, None where it leads to no list.

    The part `*` stands for every attribute of an object: the lists in it are taken as one.
    """
    for at, part in enumerate(parts):
        if not isinstance(row, Mapping):
            return None
        if part == "*":
            lists = (items_at(value, parts[at + 1 :]) for value in row.values())
            return [item for items in lists if items is not None for item in items]
        if part not in row:
            return None
        row = row[part]
    return list(row) if isinstance(row, (list, tuple)) else None


class Rows:
    """The rows of one table: `vms` (the documents themselves) or the items of one list in each document.

    `owner[i]` is the position of the document that row `i` belongs to; `listed` tells which documents have the list.
    Columns are made once and kept.
    """

    def __init__(self, documents: Sequence[Any], table: str) -> None:
        self._columns: dict[tuple[str, ...], Column] = {}
        self._vms: list[Any] | None = None
        if table == "vms":
            self.items: list[Any] = list(documents)
            self.owner = np.arange(len(documents))
            self.listed: Bools = np.ones(len(documents), dtype=np.bool_)
            self._places = [1] * len(documents)
        else:
            self._gather(documents, documents, table.split("."))

    def _gather(self, documents: Sequence[Any], vms: Sequence[Any], path: Sequence[str]) -> None:
        lists = [items_at(document, path) for document in documents]
        sizes = [len(items or ()) for items in lists]
        self.items = [item for items in lists for item in items or ()]
        self.owner = np.repeat(np.arange(len(documents)), sizes)
        self.listed = np.array([items is not None for items in lists], dtype=np.bool_)
        self._places = [place for size in sizes for place in range(1, size + 1)]
        self._vms = [vm for vm, size in zip(vms, sizes, strict=True) for _ in range(size)]

    def __len__(self) -> int:
        return len(self.items)

    def items_of(self, parts: Sequence[str]) -> Rows:
        """Return the items of a list in each row as rows of their own; their `owner` is the row, their `vm` the VM."""
        inner = Rows((), "vms")
        inner._gather(self.items, self.items if self._vms is None else self._vms, parts)
        return inner

    def value(self, row: int, parts: Sequence[str]) -> Any:
        """Return one value of one row; the mark of a missing one where there is none. `#` is its place in the list."""
        if parts[0] == "#":
            return self._places[row]
        if self._vms is not None and parts[0] == "vm":
            return attribute(self._vms[row], parts[1:])
        return attribute(self.items[row], parts)

    def _values(self, parts: tuple[str, ...]) -> list[Any]:
        """Return the values of an attribute path, row by row."""
        if parts[0] == "#":
            return list(self._places)
        rows, path = self.items, parts
        if self._vms is not None and parts[0] == "vm":
            rows, path = self._vms, parts[1:]
        if len(path) == 1:  # the usual case, without a call for each row
            name = path[0]
            return [row.get(name, _ABSENT) if type(row) is dict else attribute(row, path) for row in rows]
        return [attribute(row, path) for row in rows]

    def column(self, parts: tuple[str, ...]) -> Column:
        """Return the column of an attribute path."""
        if parts not in self._columns:
            self._columns[parts] = column_of(self._values(parts))
        return self._columns[parts]
