"""Reading a guest's serial console: `Running` says nothing about the guest, its console does. Pure."""

from __future__ import annotations

import re

import msgspec

from mtv.model.errors import PermanentError

MAX_LINES = 200
MAX_LINE = 300

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b[@-Z\\-_]|\x1b\][^\x07\x1b]*(\x07|\x1b\\)")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
# `web-1 login: ` at the start of a line. A prompt that is an echo of something else has text after it.
LOGIN_PROMPT = r"^\S+ login:\s*$"


class Sighting(msgspec.Struct, frozen=True, kw_only=True):
    """A boot seen on the console: the line that proves it, and the last lines up to it (at most 200)."""

    marker: str
    lines: tuple[str, ...]


def lines_of(text: str) -> list[str]:
    """Return the console's lines without terminal escapes, control characters and empty lines, each cut to 300."""
    plain = _ESCAPES.sub("", text.replace("\r\n", "\n")).replace("\r", "\n")
    return [line[:MAX_LINE] for line in (_CONTROL.sub("", raw).rstrip() for raw in plain.split("\n")) if line]


def tail(text: str, *, count: int = MAX_LINES) -> tuple[str, ...]:
    """Return the console's last `count` lines."""
    return tuple(lines_of(text)[-count:])


def sighting(text: str, marker: str = "") -> Sighting | None:
    """Return the first proof of a boot on the console: a line that matches `marker`, without one a login prompt.

    Raises `PermanentError` when `marker` is no regular expression.
    """
    try:
        pattern = re.compile(marker or LOGIN_PROMPT)
    except re.error as error:
        raise PermanentError(
            f"boot_proof.marker {marker!r} is no regular expression: {error}", code="marker-invalid"
        ) from error
    lines = lines_of(text)
    for number, line in enumerate(lines):
        if pattern.search(line):
            return Sighting(marker=line, lines=tuple(lines[max(0, number + 1 - MAX_LINES) : number + 1]))
    return None
