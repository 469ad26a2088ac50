"""VM documents from outside, one JSON object a line."""

from __future__ import annotations

from typing import Any

import msgspec

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def read_document(line: bytes, number: int) -> tuple[dict[str, Any] | None, list[str]]:
    """Return a line's document and what is wrong with it; None for the document when there is none to judge.

    Attributes may be missing and unknown ones are left alone; a document whose `name` is missing or no text is judged
    all the same. `number` counts lines from 1, for the words.
    """
    try:
        document = msgspec.json.decode(line.removeprefix(_BYTE_ORDER_MARK))
    except (ValueError, RecursionError) as error:
        return None, [f"line {number} is not JSON: {error}"]
    if not isinstance(document, dict):
        return None, [f"line {number} is not a JSON object"]
    if "name" not in document:
        return document, [f"line {number}: the VM has no name"]
    if not isinstance(document["name"], str):
        return document, [f"line {number}: the VM's name is not a text"]
    return document, []
