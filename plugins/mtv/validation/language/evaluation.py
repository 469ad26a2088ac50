"""A condition over all rows of a table at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mtv.validation.language.columns import Bools, Column, Kind, Rows, column_of, constant
from mtv.validation.language.syntax import Both, Call, Compare, Condition, Either, Literal, Match, Member, Not, Path


class Truth(NamedTuple):
    """Three-valued result per row: true, else false where `known`, else undefined. `true` implies `known`."""

    true: Bools
    known: Bools

    @property
    def false(self) -> Bools:
        """Where the condition is false."""
        return self.known & ~self.true


_ORDER: dict[str, Callable[[Any, Any], Any]] = {
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
}


def truth(condition: Condition, rows: Rows) -> Truth:
    """Evaluate a condition over the rows."""
    if isinstance(condition, Not):
        inner = truth(condition.operand, rows)
        return Truth(inner.false, inner.known)
    if isinstance(condition, Both):
        left, right = truth(condition.left, rows), truth(condition.right, rows)
        return Truth(left.true & right.true, (left.known & right.known) | left.false | right.false)
    if isinstance(condition, Either):
        left, right = truth(condition.left, rows), truth(condition.right, rows)
        true = left.true | right.true
        return Truth(true, true | (left.known & right.known))
    if isinstance(condition, Compare):
        return _compare(condition.operator, _values(condition.left, rows), _values(condition.right, rows))
    if isinstance(condition, Member):
        return _member(condition, rows)
    if isinstance(condition, Match):
        return _match(condition, rows)
    if isinstance(condition, Call) and condition.name in ("has", "filled"):
        column = _values(condition.argument, rows)
        filled = (column.kind == Kind.TEXT) & (column.size > 0)
        return Truth(
            filled if condition.name == "filled" else column.kind != Kind.MISSING, np.ones(len(rows), dtype=np.bool_)
        )
    column = _values(condition, rows)
    known = column.kind == Kind.BOOL
    return Truth(known & (column.number != 0), known)


def _values(node: Condition, rows: Rows) -> Column:
    if isinstance(node, Literal):
        return constant(node.value, len(rows))
    if isinstance(node, Path):
        return rows.column(node.parts)
    if isinstance(node, Call) and node.name == "count" and node.condition is not None:
        items = rows.items_of(node.argument.parts)
        number = np.bincount(items.owner[truth(node.condition, items).true], minlength=len(rows))
        kind = np.where(items.listed, Kind.NUMBER, Kind.MISSING).astype(np.int8)
        return _values(node.argument, rows)._replace(kind=kind, number=number.astype(np.float64))
    if isinstance(node, Call) and node.name == "count":
        column = _values(node.argument, rows)
        counted = (column.kind == Kind.SIZED) | (column.kind == Kind.TEXT)
        return column._replace(kind=np.where(counted, Kind.NUMBER, Kind.MISSING).astype(np.int8), number=column.size)
    if isinstance(node, Call) and node.name == "lower":
        column = _values(node.argument, rows)
        text = column.kind == Kind.TEXT
        lowered = _of_texts(str.lower, column.text, np.object_)
        return column._replace(kind=np.where(text, Kind.TEXT, Kind.MISSING).astype(np.int8), text=lowered)
    if isinstance(node, Call) and node.name == "default" and node.fallback is not None:
        column, other = _values(node.argument, rows), constant(node.fallback.value, len(rows))
        gone = column.kind == Kind.MISSING
        return Column(
            np.where(gone, other.kind, column.kind),
            np.where(gone, other.number, column.number),
            np.where(gone, other.text, column.text),
            np.where(gone, other.size, column.size),
        )
    result = truth(node, rows)
    kind = np.where(result.known, Kind.BOOL, Kind.MISSING).astype(np.int8)
    return column_of([False] * len(rows))._replace(kind=kind, number=result.true.astype(np.float64))


def _compare(operator: str, left: Column, right: Column) -> Truth:
    present = (left.kind != Kind.MISSING) & (right.kind != Kind.MISSING)
    same = present & (left.kind == right.kind)
    numbers, texts = same & (left.kind == Kind.NUMBER), same & (left.kind == Kind.TEXT)
    if operator in ("==", "!="):
        # Lists and objects have no literals to be compared with, so their equality is never known.
        known = present & ~(same & (left.kind == Kind.SIZED))
        by_number = (numbers | (same & (left.kind == Kind.BOOL))) & (left.number == right.number)
        equal = by_number | (texts & (left.text == right.text)) | (same & (left.kind == Kind.NULL))
        return Truth(equal if operator == "==" else known & ~equal, known)
    if operator == "contains":
        inside = np.zeros(len(texts), dtype=np.bool_)
        pairs = zip(left.text[texts].tolist(), right.text[texts].tolist(), strict=True)
        inside[texts] = [part in whole for whole, part in pairs]
        return Truth(inside, texts)
    order = _ORDER[operator]
    true = numbers & order(left.number, right.number)
    text_rows = np.flatnonzero(texts)
    true[text_rows] = order(left.text[text_rows], right.text[text_rows]).astype(np.bool_)
    return Truth(true, numbers | texts)


def _member(node: Member, rows: Rows) -> Truth:
    column = _values(node.value, rows)
    found = np.zeros(len(rows), dtype=np.bool_)
    for item in node.items:
        found |= _compare("==", column, constant(item.value, len(rows))).true
    known = (column.kind != Kind.MISSING) & (column.kind != Kind.SIZED)
    return Truth(found, known)


def _match(node: Match, rows: Rows) -> Truth:
    column = _values(node.value, rows)
    texts = column.kind == Kind.TEXT
    found = np.zeros(len(rows), dtype=np.bool_)
    found[texts] = _of_texts(lambda text: node.pattern.search(text) is not None, column.text[texts], np.bool_)
    return Truth(found, texts)


def _of_texts(
    function: Callable[[str], Any], texts: npt.NDArray[np.object_], dtype: type[np.generic]
) -> npt.NDArray[Any]:
    """Return what a function makes of each text; it is asked once for each that differs, which are mostly few."""
    values = texts.tolist()
    answers = {text: function(text) for text in set(values)}
    return np.array([answers[text] for text in values], dtype=dtype)
