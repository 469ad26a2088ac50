"""YAML with the 1.2 core schema and a position for every key and value.

Built on ruamel.yaml's event stream: its constructors would resolve dates (which the core schema does not know) and
forget where values stood. Aliases, tags, duplicate keys and deep nesting are faults.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)
from ruamel.yaml.reader import ReaderError

from mtv.plan.problems import Problem

Path = tuple[str | int, ...]
Place = tuple[int, int]

MAX_DEPTH = 20
"""Deeper nesting than this is no plan."""
_INT = re.compile(r"[-+]?[0-9]{1,18}")
_OCTAL = re.compile(r"0o[0-7]{1,20}")
_HEX = re.compile(r"0x[0-9a-fA-F]{1,16}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]{1,3})?")
_CONSTANTS: dict[str, Any] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}  # fmt: skip


class YamlDocument:
    """A document's plain value and where its parts stand (line and column from 1)."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.value: Any = None
        self.problems: list[Problem] = []
        self.values_at: dict[Path, Place] = {}
        self.keys_at: dict[Path, Place] = {}

    def place(self, path: Path, *, key: bool = False) -> Place:
        """Return where the key or value at `path` stands, or the nearest thing around it that exists."""
        if key and path in self.keys_at:
            return self.keys_at[path]
        while path:
            if path in self.values_at:
                return self.values_at[path]
            path = path[:-1]
        return self.values_at.get((), (1, 1))


def read_yaml(text: str, file: str) -> YamlDocument:
    """Read one document; faults are collected in `problems`, and `value` is what could be read."""
    document = YamlDocument(file)
    try:
        _Builder(document, YAML(typ="safe", pure=True).parse(text)).build()
    except _Refused as refused:
        document.problems.append(refused.problem)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        words = " ".join(part for part in (error.context, error.problem) if part)
        document.problems.append(
            Problem(
                file,
                *_place_at(text, mark.index if mark else 0),
                f"this is not YAML: {words}",
                "mind indentation and quotes",
            )
        )
    except ReaderError as error:
        document.problems.append(
            Problem(
                file, *_place_at(text, error.position), f"a character that YAML forbids: {error.reason}", "remove it"
            )
        )
    except YAMLError as error:
        document.problems.append(Problem(file, 1, 1, f"this is not YAML: {error}"))
    return document


def _place_at(text: str, index: int) -> Place:
    """Line and column of a character, as editors count them: the parser's own count misses some breaks of lines."""
    lines = re.split(r"\r\n|[\r\n]", text[:index])
    return len(lines), len(lines[-1]) + 1


class _Refused(Exception):
    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


class _Builder:
    def __init__(self, document: YamlDocument, events: Iterator[Event]) -> None:
        self.document = document
        self.events = events

    def build(self) -> None:
        documents = 0
        for event in self.events:
            if isinstance(event, DocumentStartEvent):
                documents += 1
                if documents > 1:
                    self._refuse(event, "a second document in the file", "one file is one plan: remove the `---`")
            elif isinstance(event, NodeEvent):
                self.document.value = self._value(event, ())

    def _refuse(self, event: Event, message: str, cure: str) -> None:
        mark = event.start_mark
        raise _Refused(Problem(self.document.file, mark.line + 1, mark.column + 1, message, cure))

    def _value(self, event: Event, path: Path) -> Any:
        mark = event.start_mark
        self.document.values_at[path] = (mark.line + 1, mark.column + 1)
        if len(path) > MAX_DEPTH:
            self._refuse(event, "nested too deeply for a plan", "see the examples in include/plans")
        if isinstance(event, AliasEvent) or (isinstance(event, NodeEvent) and event.anchor is not None):
            self._refuse(event, "anchors and aliases are not allowed in a plan", "write the value out, or use defaults")
        if getattr(event, "tag", None) is not None:
            self._refuse(event, "tags are not allowed in a plan", "remove the word that begins with !")
        if isinstance(event, ScalarEvent):
            return _scalar(event)
        if isinstance(event, MappingStartEvent):
            return self._mapping(path)
        if isinstance(event, SequenceStartEvent):
            return self._sequence(path)
        raise AssertionError(f"an event that begins no value: {event}")

    def _mapping(self, path: Path) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for event in self.events:
            if isinstance(event, MappingEndEvent):
                break
            mark = event.start_mark
            place = (mark.line + 1, mark.column + 1)
            if not isinstance(event, ScalarEvent) or event.anchor is not None or event.tag is not None:
                self._refuse(event, "a key must be plain text", "write the key as one word or in quotes")
                raise AssertionError("unreachable")
            key = str(event.value)
            here = (*path, key)
            if key in result:
                first = self.document.keys_at[here]
                self.document.problems.append(
                    Problem(
                        self.document.file,
                        *place,
                        f"key {key} stands here a second time (first in line {first[0]})",
                        "keep one of them",
                    )
                )
                self._value(next(self.events), here)  # the first one stays, but positions move to the second
                self.document.keys_at[here] = first
                continue
            self.document.keys_at[here] = place
            result[key] = self._value(next(self.events), here)
        return result

    def _sequence(self, path: Path) -> list[Any]:
        result: list[Any] = []
        for event in self.events:
            if isinstance(event, SequenceEndEvent):
                break
            result.append(self._value(event, (*path, len(result))))
        return result


def _scalar(event: ScalarEvent) -> Any:
    text = str(event.value)
    if not event.implicit[0]:  # quoted or block text is always text
        return text
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _INT.fullmatch(text):
        return int(text)
    if _OCTAL.fullmatch(text):
        return int(text[2:], 8)
    if _HEX.fullmatch(text):
        return int(text[2:], 16)
    if _FLOAT.fullmatch(text):
        return float(text)
    return text
