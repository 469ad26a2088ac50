"""One case of fuzzing: damaged bytes, a reader, a bound of time."""

from __future__ import annotations

import contextlib
import random
import signal
import tempfile
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from types import FrameType

from mtv.model.errors import MtvError
from tests.fuzz.mutations import damaged
from tests.fuzz.readers import Reader

HANGS_AFTER_S = 20
"""A case takes milliseconds; so long it takes only if it never ends."""


class CaseFailed(Exception):
    """The reader raised what it must not (the cause), or hung. `place` names the line, to tell kinds apart."""

    def __init__(self, data: bytes, place: str) -> None:
        super().__init__(f"{len(data)} bytes: {place}")
        self.data = data
        self.place = place


class _Hangs(BaseException):
    """Not an `Exception`: no reader may take it for damage."""


@lru_cache
def seeds_in(folder: Path) -> tuple[bytes, ...]:
    """The files of a corpus."""
    return tuple(path.read_bytes() for path in sorted(folder.iterdir()) if path.name != "LICENSE.txt")


def try_case(reader: Reader, seed: int) -> None:
    """Feed it the case of this seed; raises `CaseFailed`."""
    try_bytes(reader, damaged(seeds_in(reader.corpus), reader.words, random.Random(seed)))


def try_bytes(reader: Reader, data: bytes) -> None:
    """Feed it these bytes; raises `CaseFailed`."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        try:
            with _bounded():
                reader.read(data, Path(folder))
        except MtvError:
            return
        except (Exception, _Hangs) as error:
            raise CaseFailed(data, _place(error)) from error


def _place(error: BaseException) -> str:
    step = error.__traceback__
    while step and step.tb_next:
        step = step.tb_next
    return f"{type(error).__name__} {step.tb_frame.f_code.co_filename}:{step.tb_lineno}" if step else repr(error)


@contextlib.contextmanager
def _bounded() -> Iterator[None]:
    def hang(_number: int, _frame: FrameType | None) -> None:
        raise _Hangs

    before = signal.signal(signal.SIGALRM, hang)
    signal.alarm(HANGS_AFTER_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
