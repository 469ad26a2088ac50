"""Starting and stopping parts in the right order, under one lock per lab, and saying how they are."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from lab.cache import say, say_going_on
from lab.registry import PARTS, usual_parts, with_dependants, with_needs
from lab.state import State


@dataclass(frozen=True)
class PartStatus:
    """How one part is: `up`, `down`, or `broken` (it was started and does not answer, or a process of it ended)."""

    name: str
    state: str
    real: str
    stand_in: str
    endpoints: dict[str, Any]
    problems: tuple[str, ...]


def build(names: Sequence[str] = ()) -> None:
    """Fill the cache for the named parts (none: the usual ones) and what they need; starts nothing."""
    for name in with_needs(names or usual_parts()):
        PARTS[name].build()


def up(state: State, names: Sequence[str] = ()) -> None:
    """Bring up the named parts (none: the usual ones) and what they need. Those that answer already are left alone.

    On an error, or Ctrl-C, whatever this call started is stopped again before the error is passed on.
    """
    order = with_needs(names or usual_parts())
    with _locked(state):
        build(order)
        started: list[str] = []
        try:
            for name in order:
                if state.endpoints(name) and PARTS[name].healthy(state):
                    say(f"{name} is already up")
                    continue
                # What stands on a broken part holds on to its old endpoints: all of that goes down first.
                for other in with_dependants([name]):
                    if (state.dir / other).is_dir():
                        _stop(other, state)
                started.append(name)
                with say_going_on(f"starting {name}"):
                    state.save_endpoints(name, PARTS[name].start(state))
        except BaseException:
            for name in reversed(started):
                _stop(name, state)
            raise


def down(state: State, names: Sequence[str] = ()) -> None:
    """Stop the named parts (none: all) and what stands on them; also cleans up after a crash."""
    if not state.dir.is_dir():
        return
    errors: list[Exception] = []
    with _locked(state):
        for name in with_dependants(names or PARTS):
            if not (state.dir / name).is_dir():
                continue
            try:
                with say_going_on(f"stopping {name}"):
                    _stop(name, state)
            except Exception as error:  # noqa: BLE001  the others are stopped all the same; raised below
                errors.append(error)
    if errors:
        raise errors[0] if len(errors) == 1 else ExceptionGroup("some parts could not be stopped", errors)


def status(state: State, names: Sequence[str] = ()) -> list[PartStatus]:
    """How the named parts (none: all) are right now."""
    found = []
    for name in names or list(PARTS):
        part = PARTS[name]
        endpoints = state.endpoints(name)
        problems = part.problems(state)
        if not endpoints and not problems:
            word = "down"
        elif endpoints and part.healthy(state):
            word = "up"
        else:
            word = "broken"
        found.append(PartStatus(name, word, part.real, part.stand_in, endpoints, tuple(problems)))
    return found


def _stop(name: str, state: State) -> None:
    PARTS[name].stop(state)
    state.forget(name)


@contextmanager
def _locked(state: State) -> Iterator[None]:
    """Only one `up` or `down` at a time works on one lab."""
    state.dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (state.dir / "lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with say_going_on("waiting for another command that works on this lab"):
                fcntl.flock(handle, fcntl.LOCK_EX)
        yield
