"""The syntax tree of a condition."""

from __future__ import annotations

import re
from typing import Any

import msgspec


class ConditionError(ValueError):
    """A condition that is not well-formed; `position` is the offset in its text (0 is the first character)."""

    def __init__(self, message: str, position: int) -> None:
        super().__init__(f"{message} (at character {position + 1})")
        self.position = position


Scalar = bool | int | float | str | None


class Literal(msgspec.Struct, frozen=True):
    """A number, a text, true, false or null."""

    value: Scalar


class Path(msgspec.Struct, frozen=True):
    """An attribute of the row, or with a leading `vm` of the VM that the row is a part of."""

    parts: tuple[str, ...]


class Call(msgspec.Struct, frozen=True):
    """A function of one value: count, lower, has, filled; or `default` with what to use instead.

    `condition` is what `count` asks of each item; its attributes are the item's.
    """

    name: str
    argument: Any
    fallback: Literal | None = None
    condition: Any = None


class Compare(msgspec.Struct, frozen=True):
    """`left operator right`, the operator one of == != < <= > >= contains."""

    operator: str
    left: Any
    right: Any


class Member(msgspec.Struct, frozen=True):
    """`value in [items]`."""

    value: Any
    items: tuple[Literal, ...]


class Match(msgspec.Struct, frozen=True):
    """`value matches pattern`."""

    value: Any
    pattern: re.Pattern[str]


class Not(msgspec.Struct, frozen=True):
    """`not operand`."""

    operand: Any


class Both(msgspec.Struct, frozen=True):
    """`left and right`."""

    left: Any
    right: Any


class Either(msgspec.Struct, frozen=True):
    """`left or right`."""

    left: Any
    right: Any


Condition = Literal | Path | Call | Compare | Member | Match | Not | Both | Either


def paths_of(node: Condition) -> set[tuple[str, ...]]:
    """Return all attribute paths that a condition reads."""
    if isinstance(node, Path):
        return {node.parts}
    found: set[tuple[str, ...]] = set()
    for name in ("argument", "left", "right", "value", "operand"):
        child = getattr(node, name, None)
        if isinstance(child, msgspec.Struct):
            found |= paths_of(child)  # type: ignore[arg-type]  # every struct below a condition is one
    return found
