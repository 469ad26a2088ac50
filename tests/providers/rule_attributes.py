"""Which attributes of a document a rule reads, and what a document holds there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from mtv.validation.language.syntax import Call, paths_of
from mtv.validation.rules import Rule

Path = tuple[str, ...]


def condition_paths(rule: Rule) -> set[Path]:
    """All paths that a rule's condition reads of its document, below tables and inside counts."""
    table = () if rule.table == "vms" else tuple(rule.table.split("."))

    def walk(node: Any) -> Iterator[Path]:
        yield from paths_of(node)
        stack = [node]
        while stack:
            each = stack.pop()
            if isinstance(each, Call) and each.condition is not None:
                for inner in paths_of(each.condition):
                    yield (*each.argument.parts, *inner)
            stack += [
                child
                for name in ("left", "right", "operand", "value", "argument")
                if isinstance(child := getattr(each, name, None), msgspec.Struct)
            ]

    return {path[1:] if table and path[0] == "vm" else (*table, *path) for path in walk(rule.condition)}


def values_at(value: Any, path: Path) -> list[Any]:
    """What a path leads to, through every row of every list on its way."""
    if not path:
        return [value]
    if isinstance(value, list):
        return [found for row in value for found in values_at(row, path)]
    if path[0] == "*" and isinstance(value, dict):
        return [found for inner in value.values() for found in values_at(inner, path[1:])]
    return values_at(value[path[0]], path[1:]) if isinstance(value, dict) and path[0] in value else []
