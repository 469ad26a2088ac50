"""Texts for people. Those from elsewhere, such as names of VMs, are one line each, whatever is in them."""

from __future__ import annotations

import unicodedata

_ENDS_A_LINE = ("Zl", "Zp")


def printable(value: object) -> str:
    """Return text without control characters and line ends: it must neither steer a terminal nor add lines to a log."""
    return "".join(c if _is_shown(unicodedata.category(c)) else "�" for c in str(value))


def count_of(number: int, one: str, many: str = "") -> str:
    """Return a number and its noun: `1 disk`, `2 disks`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def _is_shown(category: str) -> bool:
    return category[0] != "C" and category not in _ENDS_A_LINE
