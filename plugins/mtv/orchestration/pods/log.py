"""A mover's log as people read it: JSON lines in, one readable line per disk and whatever else it says out."""

from __future__ import annotations

import json
from collections.abc import Iterable

import msgspec

from mtv.model.transfer import Progress

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


class LogTail:
    """Reads the tail of a log again and again and gives each line once, by the time stamps Kubernetes writes."""

    def __init__(self) -> None:
        self._last = ""
        self._at_last: set[str] = set()

    @property
    def is_empty(self) -> bool:
        """Has nothing been read yet?"""
        return not self._last

    def new(self, text: str) -> list[str]:
        """Return the lines that were not given before, without their time stamps."""
        found: list[str] = []
        for raw in text.splitlines():
            stamp, _, line = raw.partition(" ")
            if stamp < self._last or (stamp == self._last and line in self._at_last):
                continue
            if stamp != self._last:
                self._last, self._at_last = stamp, set()
            self._at_last.add(line)
            found.append(line)
        return found


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What a piece of a log says: lines for people, and the newest progress of each disk."""

    lines: tuple[str, ...] = ()
    progress: tuple[Progress, ...] = ()


def read_lines(lines: Iterable[str]) -> Told:
    """Sort a mover's lines. A line that is no event of ours is passed on as it is."""
    spoken: list[str] = []
    newest: dict[str, Progress] = {}
    for line in lines:
        event = _event(line)
        kind = event.get("event")
        if kind == "progress":
            try:
                progress = msgspec.convert(event, Progress)
            except msgspec.ValidationError:
                spoken.append(line)
                continue
            newest[progress.disk] = progress
        elif kind in ("log", "error"):
            spoken.append(_words(event, kind))
        elif kind not in ("result", "inspection") and line.strip():
            spoken.append(line)
    spoken.extend(describe(progress) for progress in newest.values())
    return Told(lines=tuple(spoken), progress=tuple(newest.values()))


def describe(progress: Progress) -> str:
    """Return one line about one disk: how far, how fast, how long still."""
    words = [f"{progress.disk or 'guest'}: {progress.phase}"]
    if progress.bytes_total:
        share = 100 * progress.bytes_done / progress.bytes_total
        words.append(f"{share:.0f} % ({size(progress.bytes_done)} of {size(progress.bytes_total)})")
    if progress.rate_bytes_per_s:
        words.append(f"{size(progress.rate_bytes_per_s)}/s")
    if progress.eta_s is not None:
        minutes, seconds = divmod(round(progress.eta_s), 60)
        words.append(f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d} left")
    return ", ".join(words)


def size(size_bytes: float) -> str:
    """Return a size with a binary unit and about three digits."""
    value = float(size_bytes)
    for unit in _UNITS:
        if value < 1024 or unit == _UNITS[-1]:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1024
    raise AssertionError("the last unit takes all")


def _event(line: str) -> dict[str, object]:
    try:
        found = msgspec.json.decode(line)
    except (msgspec.DecodeError, RecursionError):  # words of another program
        return {}
    return found if isinstance(found, dict) else {}


def _words(event: dict[str, object], kind: str) -> str:
    message = str(event.get("message") or event.get("text") or json.dumps(event))
    where = f"{event['disk']}: " if event.get("disk") else ""
    code = f"[{event['code']}] " if event.get("code") else ""
    return f"{'error: ' if kind == 'error' else ''}{code}{where}{message}"
