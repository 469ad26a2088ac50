"""Programmatic units of OVF ("byte * 2^20") and the older words, as a number of bytes."""

from __future__ import annotations

import re

from mtv.providers.ova.refusal import Refused

_WORDS = {
    "byte": 1,
    "bytes": 1,
    "kilobytes": 1 << 10,
    "megabytes": 1 << 20,
    "gigabytes": 1 << 30,
    "terabytes": 1 << 40,
    "kb": 1 << 10,
    "mb": 1 << 20,
    "gb": 1 << 30,
    "tb": 1 << 40,
    "kib": 1 << 10,
    "mib": 1 << 20,
    "gib": 1 << 30,
    "tib": 1 << 40,
}
_FACTOR = re.compile(r"(\d{1,9})(?:\^(\d{1,3}))?")
_LIMIT = 1 << 70


def bytes_of(amount: str, unit: str, *, what: str, default_unit: str = "byte") -> int:
    """Return `amount` of `unit` in bytes. `what` names the value in errors. Raises `Refused`."""
    if not re.fullmatch(r"[0-9]{1,18}", amount.strip()):
        raise Refused(f"{what} is {amount[:40]!r}, not a whole number")
    size = int(amount) * factor_of(unit.strip() or default_unit, what=what)
    if size >= 1 << 62:
        raise Refused(f"{what} is {amount} {unit}, which is beyond any disk")
    return size


def factor_of(unit: str, *, what: str) -> int:
    """Return how many bytes one `unit` is."""
    head, *tail = (part.strip() for part in unit.split("*"))
    factor = _WORDS.get(head.lower())
    if factor is None:
        raise Refused(f"{what} has the unknown unit {unit!r}")
    for part in tail:
        match = _FACTOR.fullmatch(part.replace(" ", ""))
        if match is None:
            raise Refused(f"{what} has the unknown unit {unit!r}")
        factor *= int(match[1]) ** int(match[2] or 1)
        if factor > _LIMIT:
            raise Refused(f"{what} has the unit {unit!r}, which is beyond any disk")
    return factor
