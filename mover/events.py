"""What a mover says while it runs: JSON lines for machines, bars and sentences for a terminal.

Every line is at most 4096 bytes, so that a log reader never sees half of one.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TextIO

import msgspec

from mover.termination import leaves_out_what_is_needed
from mtv.model.transfer import Failure, Progress, TransferResult

if TYPE_CHECKING:
    from mtv.model.conversion import ConvertResult, Inspection, PreflightResult

MAX_LINE_BYTES = 4096
_CUT = "…"


class Events:
    """Writes to `stream`: JSON lines, or text for people if it is a terminal. Safe from several threads."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._for_people = self._stream.isatty()
        self._lock = threading.Lock()
        self._bars = 0

    def progress(self, readings: list[Progress]) -> None:
        """The state of all disks."""
        if self._for_people:
            from mover import progress

            with self._lock:
                progress.draw(readings, again=self._bars == len(readings), stream=self._stream)
                self._bars = len(readings)
        else:
            for reading in readings:
                self._write({"event": "progress"} | msgspec.to_builtins(reading))

    def log(self, message: str, *, disk: str = "") -> None:
        """A sentence for the log."""
        self._say(
            {"event": "log", "message": message} | ({"disk": disk} if disk else {}), f"{disk or 'mover'}: {message}"
        )

    def error(self, failure: Failure) -> None:
        """A failure; the process may still go on with other disks."""
        cure = f" — {failure.cure}" if failure.cure else ""
        self._say(
            {"event": "error"} | msgspec.to_builtins(failure), f"{failure.disk or 'mover'}: {failure.message}{cure}"
        )

    def end(self, result: msgspec.Struct, sentence: str) -> None:
        """The last line of a command used by hand: the result, or for people a sentence that says the same."""
        self._say({"event": "result"} | msgspec.to_builtins(result), sentence)

    def result(self, result: TransferResult | ConvertResult | PreflightResult) -> None:
        """The last line."""
        document = msgspec.to_builtins(result)
        if self._for_people:
            self._say(document, msgspec.json.format(msgspec.json.encode(result)).decode())
            return
        if leaves_out_what_is_needed(result):
            from mtv.model.log_parts import WHOLE_RESULT, parts_of  # here: most results do not need it

            self._tell(parts_of(WHOLE_RESULT, result))
        self._write({"event": "result"} | document)

    def inspection(self, inspection: Inspection) -> None:
        """The whole report about a guest, for who reads the log; a person finds it in the result."""
        if not self._for_people:
            from mtv.model.log_parts import INSPECTION, parts_of  # here: a copy does not need it

            self._tell(parts_of(INSPECTION, inspection))

    def _tell(self, parts: Iterable[dict[str, Any]]) -> None:
        for part in parts:
            self._write(part)

    def _say(self, document: dict[str, Any], text: str) -> None:
        if not self._for_people:
            self._write(document)
            return
        with self._lock:
            self._stream.write(text + "\n")
            self._stream.flush()
            self._bars = 0

    def _write(self, document: dict[str, Any]) -> None:
        line = msgspec.json.encode(document)
        if len(line) >= MAX_LINE_BYTES:
            line = msgspec.json.encode(_shortened(document))
        with self._lock:
            self._stream.write(line.decode() + "\n")
            self._stream.flush()


def _shortened(document: dict[str, Any]) -> dict[str, Any]:
    """The document with long texts cut and lists left out; what is missing stands in the full result."""
    short: dict[str, Any] = {}
    for name, value in document.items():
        if isinstance(value, str) and len(value) > 200:
            short[name] = value[:200] + _CUT
        elif isinstance(value, list | tuple | dict) and len(msgspec.json.encode(value)) > 512:
            short[f"{name}_left_out"] = len(value)
        else:
            short[name] = value
    return short
