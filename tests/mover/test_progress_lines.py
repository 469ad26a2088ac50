"""What a mover tells of its progress: the rate of the last half minute, time to go, lines while it runs."""

from __future__ import annotations

import io
import json
import threading
from types import SimpleNamespace

import pytest

from mover import progress
from mover.events import Events
from mover.progress import DiskMeter, Reporter

MB = 1_000_000


class Clock:
    """Time as the test wants it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: self.now))


def test_the_rate_is_that_of_the_last_half_minute_and_gives_the_time_to_go(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    meter = DiskMeter("0")
    meter.enter("copy", total=1000 * MB)
    for _ in range(30):  # a minute at 10 MB/s
        clock.now += 2
        meter.add(20 * MB)
        meter.reading()
    for _ in range(20):  # then 40 s at 1 MB/s
        clock.now += 2
        meter.add(2 * MB)
        reading = meter.reading()
    assert (reading.phase, reading.bytes_done, reading.bytes_total) == ("copy", 640 * MB, 1000 * MB)
    assert reading.rate_bytes_per_s == pytest.approx(1 * MB, rel=0.01)
    assert reading.eta_s == pytest.approx(360, rel=0.01)


def test_what_was_done_before_is_no_part_of_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    meter = DiskMeter("0")
    meter.enter("copy", total=100 * MB, done=80 * MB)  # resumed
    clock.now += 10
    meter.add(10 * MB)
    reading = meter.reading()
    assert (reading.rate_bytes_per_s, reading.eta_s) == (1 * MB, 10.0)


def test_a_disk_that_stands_still_has_no_time_to_go(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    meter = DiskMeter("0")
    meter.enter("copy", total=100 * MB)
    clock.now += 10
    assert (meter.reading().rate_bytes_per_s, meter.reading().eta_s) == (0.0, None)


def test_every_disk_has_a_line_of_its_own_again_and_again_while_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    assert progress.REPORT_EVERY_S == 2.0
    monkeypatch.setattr(progress, "REPORT_EVERY_S", 0.001)
    told_often = threading.Event()

    class Lines(io.StringIO):
        def write(self, text: str) -> int:
            written = super().write(text)
            if self.getvalue().count("\n") > 10:
                told_often.set()
            return written

    stream = Lines()
    with Reporter(Events(stream), [DiskMeter("a"), DiskMeter("b")]):
        assert told_often.wait(60)
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["disk"] for line in lines] == ["a", "b"] * (len(lines) // 2)
    assert {line["event"] for line in lines} == {"progress"}
