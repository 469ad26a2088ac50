"""An inspection report in a pod's log: it may be longer than a termination message, and than a line of the log.

`{"event": "inspection", "part": 1, "parts": 3, "data": "…"}`; the parts together are base64 of zlib of its JSON.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from mtv.model.conversion import Inspection
from mtv.model.errors import NOT_UNDERSTOOD

EVENT = "inspection"
_PART_CHARACTERS = 3000
_MAX_PARTS = 200
_MAX_BYTES = 4 << 20


class _Part(msgspec.Struct, frozen=True):
    part: int
    parts: int
    data: str
    event: str = ""


def parts_of(inspection: Inspection) -> Iterator[dict[str, Any]]:
    """Yield the events that carry a report."""
    text = base64.b64encode(zlib.compress(msgspec.json.encode(inspection))).decode()
    pieces = [text[at : at + _PART_CHARACTERS] for at in range(0, len(text), _PART_CHARACTERS)]
    for number, piece in enumerate(pieces, 1):
        yield {"event": EVENT, "part": number, "parts": len(pieces), "data": piece}


def inspection_in(lines: Iterable[str]) -> Inspection | None:
    """Return the last report that a log holds whole; None when it holds none. What a guest says may be anything."""
    found: Inspection | None = None
    pieces: list[str] = []
    for line in lines:
        if f'"{EVENT}"' not in line:
            continue
        try:
            part = msgspec.json.decode(line, type=_Part)
        except NOT_UNDERSTOOD:
            continue
        if part.event != EVENT or part.parts > _MAX_PARTS:
            continue
        pieces = [*pieces, part.data] if part.part == len(pieces) + 1 else [part.data] if part.part == 1 else []
        if pieces and len(pieces) == part.parts:
            found = _decoded("".join(pieces)) or found
            pieces = []
    return found


def _decoded(text: str) -> Inspection | None:
    try:
        data = zlib.decompressobj().decompress(base64.b64decode(text, validate=True), _MAX_BYTES)
        return msgspec.json.decode(data, type=Inspection)
    except (zlib.error, *NOT_UNDERSTOOD):
        return None
