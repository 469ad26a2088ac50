"""Maintenance windows of waves: when they open and close, in the local time of their own zone."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from mtv.model.errors import PermanentError
from mtv.model.plan import Window


def check_window(window: Window, now: datetime, *, left: str = "nothing was touched") -> None:
    """Raise `PermanentError` before the window opens and after it has closed (`WindowMissed`).

    `left` says how whatever begins too late is left. `now` has a time zone.
    """
    start, end = (_moment(word, window.timezone) for word in (window.start, window.end))
    if now >= end:
        raise PermanentError(
            f"missed: the window closed at {window.end} {window.timezone}; {left}",
            cure="give the wave a new window",
            code="WindowMissed",
        )
    if now < start:
        raise PermanentError(
            f"the window opens at {window.start} {window.timezone}; waiting for it is not built yet",
            cure="start the run within the window",
            code="WindowNotOpen",
        )


def _moment(text: str, timezone: str) -> datetime:
    """Read a local time such as `2026-12-05 22:00`. Raises `PermanentError`."""
    try:
        moment = datetime.fromisoformat(text)
        zone = ZoneInfo(timezone)
    except (ValueError, ZoneInfoNotFoundError) as error:
        raise PermanentError(
            f"window: {error}", cure='write "2026-12-05 22:00" and an IANA time zone', code="WindowUnreadable"
        ) from error
    return moment if moment.tzinfo else moment.replace(tzinfo=zone)
