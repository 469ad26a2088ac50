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

    def take(self, rows: npt.NDArray[np.intp]) -> Column:
        """Return the column that has in each row what this one has in the row that is named."""
        return Column(self.kind[rows], self.number[rows], self.text[rows], self.size[rows])


_ABSENT = object()


def column_of(values: list[Any]) -> Column:
    """Return the column of some JSON values; `absent()` stands for a missing one."""
    kinds = {one: int(_kind_of(one)) for one in set(map(type, values))}
    kind = np.zeros(len(values), dtype=np.int8)
    number = np.zeros(len(values), dtype=np.float64)
    text = np.full(len(values), "", dtype=np.object_)
    size = np.zeros(len(values), dtype=np.float64)
    if len(set(kinds.values())) == 1:  # as most columns are
        kind[:] = next(iter(kinds.values()))
    else:
        kind[:] = [kinds[type(value)] for value in values]
    # Only what the kinds that are there need is filled in.
    if len(rows := _rows(kind, Kind.BOOL, Kind.NUMBER)):
        number[rows] = _as_floats(_chosen(values, rows))
    if len(rows := _rows(kind, Kind.TEXT, Kind.SIZED)):
        size[rows] = list(map(len, _chosen(values, rows)))
    if len(rows := _rows(kind, Kind.TEXT)):
        text[rows] = _chosen(values, rows)
    return Column(kind=kind, number=number, text=text, size=size)


def _rows(kind: npt.NDArray[np.int8], *wanted: Kind) -> npt.NDArray[np.intp]:
    found = kind == wanted[0]
    for other in wanted[1:]:
        found |= kind == other
    return np.flatnonzero(found)


def _chosen(values: list[Any], rows: npt.NDArray[np.intp]) -> list[Any]:
    return values if len(rows) == len(values) else [values[row] for row in rows.tolist()]


def _kind_of(type_: type) -> Kind:
    """Return the kind of values of a type; of one that JSON does not know, MISSING."""
    if issubclass(type_, bool):  # which to Python is a number
        return Kind.BOOL
    for kind, types in _KINDS.items():
        if issubclass(type_, types):
            return kind
    return Kind.MISSING


_KINDS: Mapping[Kind, tuple[type, ...]] = {
    Kind.NULL: (type(None),),
    Kind.NUMBER: (int, float),
    Kind.TEXT: (str,),
    Kind.SIZED: (list, tuple, Mapping),
}


def _as_floats(values: list[Any]) -> list[float] | npt.NDArray[np.float64]:
    try:
        return np.array(values, dtype=np.float64)
    except OverflowError:
        return [_as_float(value) for value in values]


def _as_float(value: int | float) -> float:
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


def constant(value: Any, length: int) -> Column:
    """Return a column that holds one value in every row."""
    return column_of([value]).take(np.zeros(length, dtype=np.intp))


def absent() -> object:
    """Return the mark of a missing value."""
    return _ABSENT


def attribute(row: Any, parts: Sequence[str]) -> Any:
    """Return the value that a path leads to, the mark of a missing one where it leads nowhere."""
    for part in parts:
        if not isinstance(row, (dict, Mapping)) or part not in row:  # a dict is the quicker to tell
            return _ABSENT
        row = row[part]
    return row


def items_at(row: Any, parts: Sequence[str]) -> list[Any] | None:
    """Return the items of the list that a path leads to, None where it leads to no list.

    The part `*` stands for every attribute of an object: the lists in it are taken as one.
    """
    if "*" not in parts:
        found = attribute(row, parts)
        return list(found) if isinstance(found, (list, tuple)) else None
    at = parts.index("*")
    holder = attribute(row, parts[:at])
    if not isinstance(holder, Mapping):
        return None
    lists = (items_at(value, parts[at + 1 :]) for value in holder.values())
    return [item for items in lists if items is not None for item in items]


class Rows:
    """The rows of a table: documents of VMs as they are or, by `items_of`, the items of a list in each of them.

    `owner[i]` is the position of the document that row `i` belongs to; `listed` tells which documents have the list,
    `empty` which of these have nothing in it. What is read of the rows is kept.
    """

    def __init__(self, documents: Iterable[Any]) -> None:
        self.items: list[Any] = list(documents)
        self.owner = np.arange(len(self.items))
        self.listed: Bools = np.ones(len(self.items), dtype=np.bool_)
        self.empty: Bools = ~self.listed
        self._places = np.ones(len(self.items), dtype=np.intp)
        self._vms: Rows | None = None
        self._vm = self.owner
        self._values: dict[tuple[str, ...], list[Any]] = {(): self.items}
        self._columns: dict[tuple[str, ...], Column] = {}

    def __len__(self) -> int:
        return len(self.items)

    def table(self, name: str) -> Rows:
        """Return the rows of a rule's table: `vms` are these themselves, else the list of that name, dots and all."""
        return self if name == "vms" else self.items_of(tuple(name.split(".")))

    def items_of(self, parts: tuple[str, ...]) -> Rows:
        """Return the items of a list in each row as rows of their own; their `owner` is the row, their `vm` the VM."""
        lists = self._lists(parts)
        sizes = np.array([len(items or ()) for items in lists], dtype=np.intp)
        inner = Rows(item for items in lists for item in items or ())
        inner.owner = np.repeat(np.arange(len(lists)), sizes)
        inner.listed = np.array([items is not None for items in lists], dtype=np.bool_)
        inner.empty = inner.listed & (sizes == 0)
        inner._places = np.arange(1, len(inner) + 1) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        inner._vms = self if self._vms is None else self._vms
        inner._vm = self._vm[inner.owner]
        return inner

    def _lists(self, parts: tuple[str, ...]) -> list[Sequence[Any] | None]:
        if "*" in parts:
            at = parts.index("*")
            return [items_at(row, parts[at:]) for row in self._values_at(parts[:at])]
        return [value if isinstance(value, (list, tuple)) else None for value in self._values_at(parts)]

    def value(self, row: int, parts: Sequence[str]) -> Any:
        """Return one value of one row; the mark of a missing one where there is none. `#` is its place in the list."""
        if parts[0] == "#":
            return int(self._places[row])
        if self._vms is not None and parts[0] == "vm":
            return attribute(self._vms.items[self._vm[row]], parts[1:])
        return attribute(self.items[row], parts)

    def _values_at(self, parts: tuple[str, ...]) -> list[Any]:
        """Return the values of an attribute path, row by row; paths share what they have in common."""
        if parts not in self._values:
            self._values[parts] = self._read(parts)
        return self._values[parts]

    def _read(self, parts: tuple[str, ...]) -> list[Any]:
        if parts[0] == "#":
            return self._places.tolist()
        if self._vms is not None and parts[0] == "vm":
            values = self._vms._values_at(parts[1:])
            return [values[vm] for vm in self._vm.tolist()]
        name, rows = parts[-1], self._values_at(parts[:-1])
        return [row.get(name, _ABSENT) if type(row) is dict else attribute(row, (name,)) for row in rows]

    def column(self, parts: tuple[str, ...]) -> Column:
        """Return the column of an attribute path."""
        if parts not in self._columns:
            if self._vms is not None and parts[0] == "vm":
                self._columns[parts] = self._vms.column(parts[1:]).take(self._vm)
            else:
                self._columns[parts] = column_of(self._values_at(parts))
        return self._columns[parts]
