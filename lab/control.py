"""Starting and stopping parts in the right order, under one lock per lab, and saying how they are."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed, wait
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event
from typing import Any

from lab.cache import say, say_going_on
from lab.registry import PARTS, chosen, usual_parts, with_dependants, with_needs
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

    Parts that do not need each other start side by side: most of a start is waiting for a server or a guest. On an
    error, or Ctrl-C, whatever this call started is stopped again before the error is passed on.
    """
    order = with_needs(names or usual_parts())
    with _locked(state):
        build(order)
        _start_all(state, _stop_what_is_not_up(state, order))


def down(state: State, names: Sequence[str] = ()) -> None:
    """Stop the named parts (none: all) and what stands on them; also cleans up after a crash."""
    order = with_dependants(names)
    if not state.dir.is_dir():
        return
    errors: list[Exception] = []
    with _locked(state):
        for name in order:
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
    for name in chosen(names):
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


def _stop_what_is_not_up(state: State, order: Sequence[str]) -> list[str]:
    """Return the parts of `order` that do not answer. What is left of them, and what stands on them, is stopped."""
    found: list[str] = []
    stopped: set[str] = set()
    for name in order:
        if state.endpoints(name) and PARTS[name].healthy(state):
            say(f"{name} is already up")
            continue
        found.append(name)
        # What stands on a broken part holds on to its old endpoints: all of that goes down first.
        for other in with_dependants([name]):
            if other not in stopped and (state.dir / other).is_dir():
                stopped.add(other)
                _stop(other, state)
    return found


def _start_all(state: State, names: Sequence[str]) -> None:
    """Start parts, each as soon as what it needs is up; `names` has each after what it needs."""
    starts: dict[str, Future[None]] = {}
    begun: list[str] = []
    given_up = Event()

    def start(name: str) -> None:
        begun.append(name)
        with say_going_on(f"starting {name}"):
            PARTS[name].begin(state)
            for need in PARTS[name].needs:
                if need in starts:
                    starts[need].result()
            if not given_up.is_set():
                state.save_endpoints(name, PARTS[name].start(state))

    with ThreadPoolExecutor(max_workers=max(len(names), 1)) as pool:  # one each: a part waits in its thread
        try:
            for name in names:
                starts[name] = pool.submit(start, name)
            for done in as_completed(starts.values()):
                done.result()
        except BaseException:
            given_up.set()
            # A part that is still starting sees its processes end, and gives up; what it began meanwhile goes then.
            for _ in range(2 if wait(starts.values(), timeout=0).not_done else 1):
                for name in reversed(names):
                    if name in begun:
                        _stop(name, state)
                wait(starts.values())
            raise


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
