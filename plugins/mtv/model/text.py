"""Texts from elsewhere, such as names of VMs: one line each, whatever is in them."""

from __future__ import annotations

import unicodedata

_ENDS_A_LINE = ("Zl", "Zp")


def printable(value: object) -> str:
    """Return text without control characters and line ends: it must neither steer a terminal nor add lines to a log."""
    return "".join(c if _is_shown(unicodedata.category(c)) else "�" for c in str(value))


def _is_shown(category: str) -> bool:
    return category[0] != "C" and category not in _ENDS_A_LINE
