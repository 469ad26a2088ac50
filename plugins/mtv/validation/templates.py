"""Texts of concerns that may name attributes of the row they are about: `Disk {file} of {vm.name} is empty`.

{file}                    the attribute's value
{name|windowsPath}        the first of them that is there and not empty
{file|'without a name'}   words for when it is not
{freeSpace:MiB}           bytes as whole MiB, rounded
{file:last}               what follows the last slash of a path
{#}                       the row's place in its list, from 1; always there
{{ }}                     braces
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

_FIELD = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_NAME = r"(?:#|[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*)"
_INSIDE = re.compile(rf"(?P<paths>{_NAME}(?:\|{_NAME})*)(?:\|'(?P<words>[^']*)')?(?::(?P<form>[A-Za-z]+))?")
_MIB = 1 << 20


class _Field(NamedTuple):
    paths: tuple[tuple[str, ...], ...]
    words: str | None
    form: str | None


class Template:
    """A text with `{attribute}` in it; `is_plain` when there is none and `text` is said of every row.

    Raises `ValueError` for a lone brace and for braces that hold no attribute.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self._parts: list[str | _Field] = []
        end = 0
        for match in _FIELD.finditer(text):
            if match[0] in ("{", "}"):
                raise ValueError(f"a lone {match[0]!r} at character {match.start() + 1}; double it to mean the brace")
            self._parts.append(text[end : match.start()])
            self._parts.append(match[0][0] if match[1] is None else _field(match[1], match.start() + 1))
            end = match.end()
        self._parts.append(text[end:])
        self.is_plain = len(self._parts) == 1

    def render(self, value: Callable[[Sequence[str]], Any]) -> str | None:
        """Fill the fields in; None when one of them is missing or is no single value of the kind its form needs."""
        written = [part if isinstance(part, str) else _written(part, value) for part in self._parts]
        texts = [text for text in written if text is not None]
        return "".join(texts) if len(texts) == len(written) else None


def _field(inside: str, position: int) -> _Field:
    match = _INSIDE.fullmatch(inside)
    if match is None:
        raise ValueError(f"{{{inside}}} at character {position} is no attribute; double the braces to mean braces")
    if match["form"] not in (None, *_FORMS):
        raise ValueError(f"no form {match['form']!r} at character {position}; there are {', '.join(_FORMS)}")
    return _Field(tuple(tuple(path.split(".")) for path in match["paths"].split("|")), match["words"], match["form"])


def _written(field: _Field, value: Callable[[Sequence[str]], Any]) -> str | None:
    chosen = field.words is not None or len(field.paths) > 1
    for path in field.paths:
        found = value(path)
        written = _plain(found) if field.form is None else _FORMS[field.form](found)
        if written is not None and (written or not chosen):
            return written
    return field.words


def _plain(value: Any) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, (str, int, float)) else None


def _mib(value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        value = round(value)
    return str((value + _MIB // 2) // _MIB)  # in whole numbers, which have no largest one


def _last(value: Any) -> str | None:
    return value.rsplit("/", 1)[-1].strip("] ") if isinstance(value, str) else None


_FORMS: dict[str, Callable[[Any], str | None]] = {"MiB": _mib, "last": _last}
