"""How fast a transfer may read from its sources: one bucket of tokens for all disks of the pod, refilled at a rate that
can change while the transfer runs.

The rate in force is, first found:

1. the file `limit` in the work directory (by hand: JOURNAL.limit), one line like `100M` or `off`, looked at every
   second;
2. the spec's window of the day (`limits`, clock times at the UTC offset that the spec gives for the moment);
3. the spec's `limit_bytes_per_s`; 0 is no limit.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from mover.halt import Halt
from mtv.model.errors import PermanentError
from mtv.model.rates import minute_of_day, parse_rate
from mtv.model.transfer import LimitWindow, TransferSpec

LIMIT_NAME = "limit"
LOOK_EVERY_S = 1.0
_BURST_S = 0.25
_NAP_S = 0.1
_MAX_LIMIT_BYTES = 64


class TokenBucket:
    """Gives out bytes at `rate` per second (0: without limit), first come, first served, so that disks share evenly.

    Safe from several threads. A taker may go into debt by its one request; the next one waits for it.
    """

    def __init__(self, rate: int = 0, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._rate = rate
        self._tokens = rate * _BURST_S
        self._filled = clock()
        self._changed = threading.Condition()
        self._waiting: deque[object] = deque()

    @property
    def rate(self) -> int:
        """Bytes per second; 0 is no limit."""
        return self._rate

    @property
    def waiting(self) -> int:
        """How many takers wait for their turn."""
        return len(self._waiting)

    def ready_in(self) -> float:
        """Seconds until the next taker is served, if nobody else waits."""
        with self._changed:
            self._refill()
            return max(-self._tokens / self._rate, 0.0) + 1e-6 if self._rate and self._tokens <= 0 else 0.0

    def set_rate(self, rate: int) -> None:
        """Change the rate; who waits now feels it at once."""
        with self._changed:
            self._refill()
            self._rate = rate
            self._tokens = min(self._tokens, rate * _BURST_S)
            self._changed.notify_all()

    def take(self, count: int, halt: Halt) -> None:
        """Return when `count` bytes may be read, or when told to stop."""
        if not self._rate:
            return
        turn = object()
        with self._changed:
            self._waiting.append(turn)
            try:
                while self._rate and not halt.is_set():
                    self._refill()
                    if self._waiting[0] is turn and self._tokens > 0:
                        self._tokens -= count
                        return
                    missing = -self._tokens / self._rate if self._waiting[0] is turn else _NAP_S
                    self._changed.wait(min(max(missing, 0.001), _NAP_S))
            finally:
                self._waiting.remove(turn)
                self._changed.notify_all()

    def _refill(self) -> None:
        now = self._clock()
        self._tokens = min(self._tokens + (now - self._filled) * self._rate, self._rate * _BURST_S)
        self._filled = now


def window_rate(windows: tuple[LimitWindow, ...], now: datetime, utc_offset_min: int) -> int | None:
    """The rate of the first window that holds `now`, or None. One that ends before it starts runs over midnight."""
    local = now.astimezone(UTC) + timedelta(minutes=utc_offset_min)
    minute = local.hour * 60 + local.minute
    for window in windows:
        start, end = minute_of_day(window.start), minute_of_day(window.end)
        inside = start <= minute < end if start < end else minute >= start or minute < end
        if inside:
            return window.bytes_per_s
    return None


def offset_at(spec: TransferSpec, now: datetime) -> int:
    """How many minutes the clock of the spec's windows is ahead of UTC now: it may change while a copy runs."""
    begun = [offset_min for since, offset_min in spec.limits_offset_changes if since <= now.timestamp()]
    return begun[-1] if begun else spec.limits_utc_offset_min


def check_limits(spec: TransferSpec) -> None:
    """Raise `PermanentError` (code spec) for clock times and rates that mean nothing."""
    for window in spec.limits:
        minute_of_day(window.start)
        minute_of_day(window.end)
    rates = [spec.limit_bytes_per_s, *(window.bytes_per_s for window in spec.limits)]
    offsets = [spec.limits_utc_offset_min, *(offset_min for _, offset_min in spec.limits_offset_changes)]
    if min(rates) < 0 or not -14 * 60 <= min(offsets) <= max(offsets) <= 14 * 60:
        raise PermanentError("the spec's limits are negative, or their UTC offset is none", code="spec")


def governor_of(spec: TransferSpec, say: Callable[[str], None]) -> Governor:
    """The one for a transfer."""
    return Governor(
        Path(spec.work_dir) / LIMIT_NAME,
        say,
        rate=spec.limit_bytes_per_s,
        windows=spec.limits,
        utc_offset_min=partial(offset_at, spec),
    )


class Governor:
    """Keeps the bucket at the rate in force while the block runs.

    `path` is the file that overrides the windows of the day, and those the `rate` (bytes per second, 0: none).
    """

    def __init__(
        self,
        path: Path,
        say: Callable[[str], None],
        *,
        rate: int = 0,
        windows: tuple[LimitWindow, ...] = (),
        utc_offset_min: Callable[[datetime], int] = lambda _now: 0,
    ) -> None:
        self._path = path
        self._say = say
        self._rate = rate
        self._windows = windows
        self._utc_offset_min = utc_offset_min
        self._bucket_rate = -1
        self._told_problem = ""
        self._ended = threading.Event()
        self.bucket = TokenBucket()
        self._look()
        self._thread = threading.Thread(target=self._run, name="governor", daemon=True)

    def __enter__(self) -> Governor:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(LOOK_EVERY_S):
            self._look()

    def _look(self) -> None:
        rate = self._from_file()
        if rate is None:
            now = datetime.now(UTC)
            rate = window_rate(self._windows, now, self._utc_offset_min(now))
        if rate is None:
            rate = self._rate
        if rate != self._bucket_rate:
            if rate or self._bucket_rate > 0:
                self._say(f"reading at most {rate / 1e6:g} MB/s now" if rate else "reading without a limit now")
            self._bucket_rate = rate
            self.bucket.set_rate(rate)

    def _from_file(self) -> int | None:
        try:
            with self._path.open("rb") as file:
                text = file.read(_MAX_LIMIT_BYTES).decode("ascii", "replace").strip()
            rate = parse_rate(text) if text else None
        except FileNotFoundError:
            problem, rate = "", None
        except OSError as error:
            problem, rate = f"{self._path} cannot be read: {error.strerror}", self._kept()
        except PermanentError as error:
            problem, rate = f"{self._path}: {error.message}; the limit stays as it was", self._kept()
        else:
            problem = ""
        if problem and problem != self._told_problem:
            self._say(problem)
        self._told_problem = problem
        return rate

    def _kept(self) -> int | None:
        return self._bucket_rate if self._bucket_rate >= 0 else None
