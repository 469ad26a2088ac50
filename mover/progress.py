"""What is going on, per disk: meters that the copy feeds, and a reporter that tells them every two seconds."""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from typing import TextIO

from mover.events import Events
from mtv.model.transfer import Progress

REPORT_EVERY_S = 2.0
_RATE_WINDOW_S = 30.0
_BAR_CELLS, _LEAST_CELLS = 24, 4
_REST_COLUMNS = 57
"""What a line has beside the name and the bar's cells, the last column included."""


class DiskMeter:
    """Progress of one disk. Phases: scan, copy, verify, done (and failed)."""

    def __init__(self, disk: str) -> None:
        self.disk = disk
        self._lock = threading.Lock()
        self._phase = "scan"
        self._done = 0
        self._total = 0
        self._samples: deque[tuple[float, int]] = deque()

    def enter(self, phase: str, *, total: int = 0, done: int = 0) -> None:
        """Begin a phase of `total` bytes, `done` of them done already; its rate starts anew."""
        with self._lock:
            self._phase, self._total, self._done = phase, total, done
            self._samples = deque([(time.monotonic(), done)])

    def add(self, count: int) -> None:
        """So many bytes more are done."""
        with self._lock:
            self._done += count

    def add_checked(self, count: int) -> None:
        """So many bytes more were read back; counts in the phase `verify` only."""
        with self._lock:
            if self._phase == "verify":
                self._done += count

    def reach(self, position: int) -> None:
        """A stream was read up to there."""
        with self._lock:
            self._done = max(self._done, position)

    def reading(self) -> Progress:
        """The state now; the rate is that of the last 30 s."""
        now = time.monotonic()
        with self._lock:
            self._samples.append((now, self._done))
            while len(self._samples) > 2 and now - self._samples[0][0] > _RATE_WINDOW_S:
                self._samples.popleft()
            then, before = self._samples[0]
            rate = (self._done - before) / (now - then) if now > then else 0.0
            left = max(self._total - self._done, 0)
            return Progress(
                disk=self.disk,
                phase=self._phase,
                bytes_done=self._done,
                bytes_total=self._total,
                rate_bytes_per_s=round(rate, 1),
                eta_s=round(left / rate, 1) if rate > 0 else None,
            )


class Reporter:
    """Tells all meters every two seconds from a thread of its own, and once more at the end."""

    def __init__(self, events: Events, meters: list[DiskMeter]) -> None:
        self._events = events
        self._meters = meters
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)

    def __enter__(self) -> Reporter:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stop.set()
        self._thread.join()
        self._tell()

    def _run(self) -> None:
        while not self._stop.wait(REPORT_EVERY_S):
            self._tell()

    def _tell(self) -> None:
        self._events.progress([meter.reading() for meter in self._meters])


def bar_line(reading: Progress, columns: int = 100) -> str:
    """One disk's progress for a person: name, phase, bar, percent, rate, time to go; never wider than the terminal."""
    name_width = 20 if columns >= 100 else 12
    cells = max(min(columns - name_width - _REST_COLUMNS, _BAR_CELLS), _LEAST_CELLS)
    share = reading.bytes_done / reading.bytes_total if reading.bytes_total else (reading.phase == "done") * 1.0
    filled = min(int(share * cells), cells)
    line = (
        f"{reading.disk[:name_width]:<{name_width}} {reading.phase:<7} [{'#' * filled}{'.' * (cells - filled)}]"
        f" {share:4.0%} {reading.bytes_done / 1e6:>9.0f} MB{_pace(reading)}"
    )
    return line[: columns - 1]


def _pace(reading: Progress) -> str:
    if reading.phase in ("done", "failed"):
        return ""
    left = "" if reading.eta_s is None else f" {_clock(reading.eta_s)} left"
    return f" {reading.rate_bytes_per_s / 1e6:>7.0f} MB/s{left}"


def draw(readings: list[Progress], *, again: bool, stream: TextIO = sys.stderr) -> None:
    """Draw one bar a disk; `again`: over the lines drawn before, which must not have wrapped."""
    import shutil  # here: it loads compressors, and a pod draws nothing

    columns = shutil.get_terminal_size().columns
    up = f"\x1b[{len(readings)}A" if again else ""
    stream.write(up + "".join(f"\x1b[2K{bar_line(reading, columns)}\n" for reading in readings))
    stream.flush()


def _clock(seconds: float) -> str:
    whole = int(seconds)
    return (
        f"{whole // 3600}:{whole % 3600 // 60:02}:{whole % 60:02}"
        if whole >= 3600
        else f"{whole // 60}:{whole % 60:02}"
    )
