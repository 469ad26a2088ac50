"""Questions to a collection: `search` (names, order, pages), `max`, and `follow` for what links lead to."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lab.ovirt.estate import Estate

_PAGE_SIZE = 100  # an engine's own, where a page is asked for without a size
_NAME = re.compile(r'\bname\s*=\s*(?:"([^"]*)"|(\S+))', re.IGNORECASE)
_PAGE = re.compile(r"\bpage (\d+)\s*$", re.IGNORECASE)


def chosen(objects: Iterable[Any], query: Mapping[str, Sequence[str]]) -> list[Any]:
    """The objects that `search` and `max` of a request leave, in the order of their names if it asks for one."""
    found = list(objects)
    search = " ".join(query.get("search", ()))
    names = {(quoted or bare).lower() for quoted, bare in _NAME.findall(search)}
    if names:
        found = [each for each in found if each.name.lower() in names]  # an engine's search ignores case
    if "sortby name" in search.lower():
        found.sort(key=lambda each: str(each.name))
    limit = int(query["max"][0]) if "max" in query else None
    if page := _PAGE.search(search):
        size = limit or _PAGE_SIZE
        start = (int(page[1]) - 1) * size
        return found[start : start + size]
    return found[:limit]


def followed(estate: Estate, found: Any, paths: Iterable[str]) -> Any:
    """A copy of an object in which the links of these paths (`disk_attachments.disk`) are replaced by what is there."""
    below: dict[str, list[str]] = {}
    for path in paths:
        name, _, rest = path.partition(".")
        below.setdefault(name, []).extend([rest] if rest else [])
    told = copy.copy(found)
    for name, further in below.items():
        there = estate.below(found, name)
        if isinstance(there, list):
            setattr(told, name, [followed(estate, each, further) for each in there])
        elif there is not None:
            setattr(told, name, followed(estate, there, further))
    return told


def follow_paths(query: Mapping[str, Sequence[str]]) -> list[str]:
    """The paths that a request asks to follow."""
    return [path.strip() for text in query.get("follow", ()) for path in text.split(",") if path.strip()]
