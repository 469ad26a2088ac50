"""Bytes per second and times of day, as people write them in plans, on command lines and in a mover's `limit` file."""

from __future__ import annotations

import re

from mtv.model.errors import PermanentError

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "KI": 1 << 10, "MI": 1 << 20, "GI": 1 << 30}
_RATE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMG]I?)?(?:B?/S|B)?", re.IGNORECASE | re.ASCII)
_CLOCK = re.compile(r"([01]\d|2[0-3]):([0-5]\d)", re.ASCII)


def parse_rate(text: str) -> int:
    """Bytes per second of `100M`, `1.5GiB/s`, `0` or `off` (both: no limit). `PermanentError` (code spec) otherwise."""
    wanted = text.strip()
    if wanted.lower() == "off":
        return 0
    match = _RATE.fullmatch(wanted)
    if not match:
        raise PermanentError(
            f"{wanted[:40]!r} is not a rate", cure="write bytes per second, e.g. 100M, 1.5GiB or off", code="spec"
        )
    return round(float(match.group(1)) * _UNITS[(match.group(2) or "").upper()])


def minute_of_day(clock: str) -> int:
    """Minutes since midnight of `22:30`. `PermanentError` (code spec) for anything else."""
    match = _CLOCK.fullmatch(clock)
    if not match:
        raise PermanentError(f"{clock!r} is not a time of day", cure="write HH:MM, e.g. 22:30", code="spec")
    return int(match.group(1)) * 60 + int(match.group(2))
