"""The plan's limits on how fast each VM's copy reads from its source."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from mtv.model.errors import PermanentError
from mtv.model.rates import minute_of_day, parse_rate
from mtv.plan.assemble import Draft


def check_bandwidth(draft: Draft) -> None:
    """Add every rate, time of day and zone that means nothing."""
    bandwidth = draft.raw.get("bandwidth")
    if not isinstance(bandwidth, dict):
        return  # the model says so
    check_text(draft, ("bandwidth", "limit"), bandwidth.get("limit"), parse_rate)
    check_text(draft, ("bandwidth", "timezone"), bandwidth.get("timezone"), zone_of)
    windows = bandwidth.get("windows")
    for index, window in enumerate(windows if isinstance(windows, list) else []):
        if isinstance(window, dict):
            here = ("bandwidth", "windows", index)
            check_text(draft, (*here, "start"), window.get("start"), minute_of_day)
            check_text(draft, (*here, "end"), window.get("end"), minute_of_day)
            check_text(draft, (*here, "limit"), window.get("limit"), parse_rate)
            if isinstance(window.get("start"), str) and window.get("start") == window.get("end"):
                message = f"the window ends at {window['end']}, when it starts"
                draft.problem((*here, "end"), message, "mend one of the two; for the whole day say it as `limit`")


def zone_of(name: str) -> ZoneInfo:
    """The zone of an IANA name. `PermanentError` (code plan) if there is none."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise PermanentError(
            f"there is no time zone {name!r}", cure="use an IANA name such as Europe/Berlin", code="plan"
        ) from error


def offset_changes(zone: ZoneInfo, since: datetime, until: datetime) -> list[tuple[int, int]]:
    """Return each change of a zone's clocks between two moments: Unix second, and minutes ahead of UTC from then on.

    To the quarter of an hour, at which all zones change.
    """
    step = 900
    changes = []
    before = _offset_min(zone, since.timestamp())
    first = int(since.timestamp()) // step * step + step
    for second in range(first, int(until.timestamp()), step):
        if (offset_min := _offset_min(zone, second)) != before:
            changes.append((second, offset_min))
            before = offset_min
    return changes


def _offset_min(zone: ZoneInfo, second: float) -> int:
    return (datetime.fromtimestamp(second, zone).utcoffset() or timedelta()) // timedelta(minutes=1)


def check_text(draft: Draft, loc: tuple[str | int, ...], value: Any, parse: Callable[[str], object]) -> None:
    """Add what `parse` says against a text; anything but a text is the model's to judge."""
    if isinstance(value, str):
        try:
            parse(value)
        except PermanentError as error:
            draft.problem(loc, error.message, error.cure)
