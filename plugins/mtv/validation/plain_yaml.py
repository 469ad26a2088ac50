"""Rule files that are plain YAML, as nearly all are, read by libyaml: 30 times as fast as ruamel.yaml.

Plain is what YAML 1.1, which libyaml speaks, and 1.2, in which rule files are written, take for the same: mappings,
lists and values without tags, anchors and directives, nothing that only one of them sees a number, a date or a key in.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml

_MAX_DEPTH = 20
_ODD = re.compile("[\t\x85\u2028\u2029\ufeff]|[:-] +[|>][-+0-9]*#")
"""Tabs and comments where only libyaml takes them, ends of lines to YAML 1.1 alone, the mark of byte order."""
_INT = re.compile(r"-?(0|[1-9][0-9]{0,17})")
_FLOAT = re.compile(r"-?(0|[1-9][0-9]*)\.[0-9]+")
_CONSTANTS = {"true": True, "false": False, "null": None, "": None}
_TEXT = re.compile(r"(?!(true|false|null)\Z)[^-+.~<=0-9].*|-[a-z].*|[0-9]+(\.[0-9]+){2,}", re.IGNORECASE | re.DOTALL)
"""What is no number, no date, no key that merges, and no constant in another spelling; addresses are."""


class _NotPlainError(Exception):
    """There is something in the file that needs the whole of YAML 1.2."""


def read_plain(text: str) -> dict[Any, Any] | None:
    """Return the mapping that a file is; None when that is not plain, no mapping or no YAML: then ask ruamel.yaml."""
    if _ODD.search(text):
        return None
    events = iter(yaml.parse(text, Loader=yaml.CBaseLoader))
    try:
        return _document(events)
    except (yaml.YAMLError, _NotPlainError):
        return None


def _document(events: Iterator[yaml.Event]) -> dict[Any, Any]:
    """Return what the only document of a stream holds."""
    next(events)  # the stream begins
    begin = next(events)
    if not isinstance(begin, yaml.DocumentStartEvent) or begin.version or begin.tags:
        raise _NotPlainError
    value = _value(next(events), events, 0)
    next(events)  # the document ends
    if not isinstance(value, dict) or not isinstance(next(events), yaml.StreamEndEvent):
        raise _NotPlainError
    return value


def _value(event: yaml.Event, events: Iterator[yaml.Event], depth: int) -> Any:
    if not isinstance(event, yaml.NodeEvent) or event.anchor is not None or depth > _MAX_DEPTH:
        raise _NotPlainError
    if isinstance(event, yaml.ScalarEvent):
        return _scalar(event)
    if not isinstance(event, yaml.CollectionStartEvent) or event.tag is not None:
        raise _NotPlainError
    if isinstance(event, yaml.SequenceStartEvent):
        found = []
        while not isinstance(inner := next(events), yaml.SequenceEndEvent):
            found.append(_value(inner, events, depth + 1))
        return found
    mapping: dict[Any, Any] = {}
    while not isinstance(inner := next(events), yaml.MappingEndEvent):
        if not isinstance(inner, yaml.ScalarEvent):
            raise _NotPlainError
        key = _value(inner, events, depth + 1)
        if key in mapping:
            raise _NotPlainError
        mapping[key] = _value(next(events), events, depth + 1)
    return mapping


def _scalar(event: yaml.ScalarEvent) -> Any:
    text: str = event.value
    if event.tag is not None:
        raise _NotPlainError
    if not event.implicit[0]:  # in quotes, or a block
        return text
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _TEXT.fullmatch(text):
        return text
    if _INT.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    raise _NotPlainError
