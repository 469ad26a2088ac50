"""A value in a pod's log: it may be longer than a termination message, and than a line of the log.

`{"event": "inspection", "part": 1, "parts": 3, "data": "…"}`; the parts together are base64 of zlib of its JSON.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import msgspec

from mtv.model.errors import NOT_UNDERSTOOD

INSPECTION = "inspection"
"""The event of a report about a guest."""
WHOLE_RESULT = "whole-result"
"""The event of a result that has no room in the pod's termination message."""
_PART_CHARACTERS = 3000
_MAX_PARTS = 200
_MAX_BYTES = 4 << 20

T = TypeVar("T")


class _Part(msgspec.Struct, frozen=True):
    part: int
    parts: int
    data: str
    event: str = ""


def parts_of(event: str, value: msgspec.Struct) -> Iterator[dict[str, Any]]:
    """Yield the events that carry a value."""
    text = base64.b64encode(zlib.compress(msgspec.json.encode(value))).decode()
    pieces = [text[at : at + _PART_CHARACTERS] for at in range(0, len(text), _PART_CHARACTERS)]
    for number, piece in enumerate(pieces, 1):
        yield {"event": event, "part": number, "parts": len(pieces), "data": piece}


def last_in(lines: Iterable[str], event: str, kind: type[T]) -> T | None:
    """Return the last value that a log holds whole; None when it holds none. What a guest says may be anything."""
    found: T | None = None
    pieces: list[str] = []
    for line in lines:
        if f'"{event}"' not in line:
            continue
        try:
            part = msgspec.json.decode(line, type=_Part)
        except NOT_UNDERSTOOD:
            continue
        if part.event != event or part.parts > _MAX_PARTS:
            continue
        pieces = [*pieces, part.data] if part.part == len(pieces) + 1 else [part.data] if part.part == 1 else []
        if pieces and len(pieces) == part.parts:
            found = _decoded("".join(pieces), kind) or found
            pieces = []
    return found


def _decoded(text: str, kind: type[T]) -> T | None:
    try:
        data = zlib.decompressobj().decompress(base64.b64decode(text, validate=True), _MAX_BYTES)
        return msgspec.json.decode(data, type=kind)
    except (zlib.error, *NOT_UNDERSTOOD):
        return None
