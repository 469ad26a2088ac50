"""Clocks of time zones, as the limits of a copy follow them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from mtv.plan.bandwidth import offset_changes, zone_of


@pytest.mark.parametrize(
    ("zone", "since", "changes"),
    [
        pytest.param("Europe/Berlin", "2026-10-20", [("2026-10-25T01:00", 60)], id="summer-ends"),
        pytest.param("Europe/Berlin", "2026-03-20", [("2026-03-29T01:00", 120)], id="summer-begins"),
        pytest.param("Australia/Lord_Howe", "2026-03-30", [("2026-04-04T15:00", 630)], id="half-an-hour"),
        pytest.param("America/New_York", "2026-03-07", [("2026-03-08T07:00", -240)], id="behind-utc"),
        pytest.param("Asia/Kolkata", "2026-03-20", [], id="no-summer"),
        pytest.param("Europe/Berlin", "2026-07-01", [], id="far-from-a-change"),
    ],
)
def test_every_change_of_clocks_within_a_fortnight_is_known(
    zone: str, since: str, changes: list[tuple[str, int]]
) -> None:
    begin = datetime.fromisoformat(since).replace(hour=5, minute=7, tzinfo=UTC)
    found = offset_changes(zone_of(zone), begin, begin + timedelta(days=15))
    assert [(f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M}", offset) for at, offset in found] == changes
