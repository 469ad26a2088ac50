"""Texts of concerns that may name attributes of the row they are about: `Disk {file} of {vm.name} is empty`."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

_FIELD = re.compile(r"\{\{|\}\}|\{([A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*)\}|[{}]")


class Template:
    """A text with `{attribute}` in it; doubled braces are braces. Raises `ValueError` for a lone brace."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.fields: list[tuple[str, ...]] = []
        for match in _FIELD.finditer(text):
            if match[1]:
                self.fields.append(tuple(match[1].split(".")))
            elif match[0] in ("{", "}"):
                raise ValueError(f"a lone {match[0]!r} at character {match.start() + 1}; double it to mean the brace")

    def render(self, value: Callable[[Sequence[str]], Any]) -> str | None:
        """Fill the fields in; None when one of them is missing or is no single value."""
        missing = False

        def fill(match: re.Match[str]) -> str:
            nonlocal missing
            if match[1] is None:
                return match[0][0]
            found = value(match[1].split("."))
            if isinstance(found, bool):
                return "true" if found else "false"
            if isinstance(found, (str, int, float)):
                return str(found)
            missing = True
            return ""

        text = _FIELD.sub(fill, self.text)
        return None if missing else text
