"""What goes wrong in an engine, by a test's wish."""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import StrEnum
from typing import NamedTuple


class Deed(StrEnum):
    """What happens to a request.

    DROP: the connection is closed without an answer. CUT: in the middle of it. EXPIRE: the login has just ended.
    FORBID: 403. CONFLICT: 409, as while another task holds the object. BUSY: 503. BREAK: 500.
    """

    DROP = "drop"
    CUT = "cut"
    EXPIRE = "expire"
    FORBID = "forbid"
    CONFLICT = "conflict"
    BUSY = "busy"
    BREAK = "break"


class _Planned(NamedTuple):
    path: re.Pattern[str]
    deed: Deed | Callable[[], None]


class Faults:
    """Faults to come, first planned first. `forbidden` are paths below the API that stay forbidden to the user.

    A forbidden part of VMs (`vms/*/nics`) cannot be followed either: an engine then refuses the whole question.
    """

    def __init__(self) -> None:
        self.forbidden: set[str] = set()
        self._planned: list[_Planned] = []

    def plan(self, path: str, deed: Deed | Callable[[], None], *, count: int = 1) -> None:
        """The next `count` requests whose path below the API matches meet a fault; a function is called before them."""
        self._planned += [_Planned(re.compile(path), deed)] * count

    def clear(self) -> None:
        """Nothing goes wrong any more."""
        self.forbidden.clear()
        self._planned.clear()

    def next(self, path: str) -> Deed | None:
        """The fault that this request meets; a function is called here and is no fault of the request itself."""
        for number, planned in enumerate(self._planned):
            if planned.path.search(path):
                del self._planned[number]
                if isinstance(planned.deed, Deed):
                    return planned.deed
                planned.deed()
                return None
        return None

    def forbids(self, path: str, follow: list[str]) -> bool:
        """Whether the user may not see what this path leads to, or something that is to be followed from there."""
        words = path.split("/")
        asked = [words]
        if words[0] == "vms" and len(words) <= 2:
            asked += [["vms", "*", follow_path.split(".")[0].replace("_", "")] for follow_path in follow]
        return any(_covers(pattern.split("/"), each) for pattern in self.forbidden for each in asked)


def _covers(pattern: list[str], words: list[str]) -> bool:
    return len(words) >= len(pattern) and all(
        "*" in (wanted, word) or wanted == word for wanted, word in zip(pattern, words, strict=False)
    )
