"""Texts of concerns that may name attributes of the row they are about: `Disk {file} of {vm.name} is empty`.

`{name|id|#}` is the first of these that is there and not empty; `#` is the row's place in its list, from 1, and always
there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

_NAME = r"(?:#|[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*)"
_FIELD = re.compile(rf"\{{\{{|\}}\}}|\{{({_NAME}(?:\|{_NAME})*)\}}|[{{}}]")


class Template:
    """A text with `{attribute}` in it; doubled braces are braces. Raises `ValueError` for a lone brace."""

    def __init__(self, text: str) -> None:
        self.text = text
        for match in _FIELD.finditer(text):
            if match[0] in ("{", "}"):
                raise ValueError(f"a lone {match[0]!r} at character {match.start() + 1}; double it to mean the brace")

    def render(self, value: Callable[[Sequence[str]], Any]) -> str | None:
        """Fill the fields in; None when one of them is missing or is no single value."""
        missing = False

        def fill(match: re.Match[str]) -> str:
            nonlocal missing
            if match[1] is None:
                return match[0][0]
            *names, last = match[1].split("|")
            for name in (*names, last):
                found = value(name.split("."))
                if found == "" and name != last:
                    continue
                if isinstance(found, bool):
                    return "true" if found else "false"
                if isinstance(found, (str, int, float)):
                    return str(found)
            missing = True
            return ""

        text = _FIELD.sub(fill, self.text)
        return None if missing else text
