"""What a part of the lab is. `lab.registry` knows them all, `lab.control` starts and stops them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

from lab.process import is_alive
from lab.state import State


class Part(ABC):
    """One thing that `python -m lab up` can start: a cluster, a vCenter, a folder of OVAs.

    A module that offers a part defines exactly one concrete subclass; the registry makes the one object of it.
    """

    name: ClassVar[str]
    needs: ClassVar[tuple[str, ...]] = ()
    """Parts that must be up before this one starts; they are stopped after it."""
    on_request: ClassVar[bool] = False
    """Is it left out when no part is named? For what few need and takes long."""
    real: ClassVar[str]
    """One line: which of its pieces are the real software."""
    stand_in: ClassVar[str]
    """One line: which pieces are stand-ins, so that nobody takes them for the real thing."""

    @abstractmethod
    def build(self) -> None:
        """Fill the cache: binaries, disks, images. May be slow the first time; does nothing the second."""

    def begin(self, state: State) -> None:  # noqa: B027  most parts have nothing to do before what they need is up
        """Do what a start can do before the parts are up that it needs; they start meanwhile. `start` follows.

        Called only when the part is down. On an error the caller calls `stop`.
        """

    @abstractmethod
    def start(self, state: State) -> dict[str, Any]:
        """Start it, wait until it really answers, give its endpoints (JSON-able, no secrets).

        Called only when the part is down. On an error the caller calls `stop`.
        """

    @abstractmethod
    def healthy(self, state: State) -> bool:
        """Does it answer right now? Quick (a second or two), never raises for a part that is down."""

    @abstractmethod
    def stop(self, state: State) -> None:
        """Stop everything and undo what was done to the machine; also right after a crash, or when nothing runs."""

    def problems(self, state: State) -> list[str]:
        """What is wrong or to be known, one line each; by default the processes that have ended by themselves."""
        pidfiles = sorted((state.dir / self.name).rglob("*.pid"))
        return [f"process {pidfile.stem} has ended" for pidfile in pidfiles if not is_alive(pidfile)]

    def logs(self, state: State) -> list[Path]:
        """Its log files; by default every *.log below its folder."""
        return sorted((state.dir / self.name).rglob("*.log"))
