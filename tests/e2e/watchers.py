"""Look around while a wave runs: at processes and sockets, and at a VM on both sides."""

from __future__ import annotations

import ipaddress
import json
import os
import struct
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from mtv.kubevirt import labels
from mtv.kubevirt.resources import INSTANCES, PODS
from mtv.model.source import PowerState
from mtv.providers.registry import open_provider

if TYPE_CHECKING:
    from tests.e2e.conftest import Factory


class RepeatingThread:
    """A thread that looks again and again until its block ends. An error of it becomes one of the test."""

    pause_s = 0.05

    def __init__(self) -> None:
        self.rounds = 0
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def look(self) -> None:
        """Look once."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(timeout=300)
        if self._error is not None and error is None:
            raise self._error

    def _run(self) -> None:
        try:
            while not self._stop.wait(self.pause_s):
                self.look()
                self.rounds += 1
        except BaseException as error:  # noqa: BLE001  handed to the test's own thread
            self._error = error


class Watcher(RepeatingThread):
    """Secrets in processes (`leaks`) and peers outside loopback (`remote`)."""

    def __init__(self, canaries: Sequence[bytes]) -> None:
        super().__init__()
        self._canaries = canaries
        self.leaks: set[str] = set()
        self.remote: set[str] = set()

    def look(self) -> None:
        self.leaks |= leaks_in_processes(self._canaries)
        self.remote |= remote_addresses()


class PodWatcher(RepeatingThread):
    """Pods of a namespace while they are there: specs of the movers' by role (`movers`), and names of those that hold
    a canary (`leaks`).
    """

    pause_s = 0.5

    def __init__(self, factory: Factory, namespace: str, canaries: Sequence[bytes]) -> None:
        super().__init__()
        self._factory, self._namespace, self._canaries = factory, namespace, canaries
        self.movers: dict[str, list[dict[str, Any]]] = {}
        self.leaks: set[str] = set()

    def _run(self) -> None:
        with self._factory.cluster() as self._cluster:
            super()._run()

    def look(self) -> None:
        for pod in self._cluster.find(PODS, self._namespace):
            marks = pod["metadata"]["labels"]
            if "kubevirt.io" not in marks:
                self.movers.setdefault(marks[labels.ROLE], []).append(pod["spec"])
            if any(canary in json.dumps(pod).encode() for canary in self._canaries):
                self.leaks.add(pod["metadata"]["name"])


class NeverBothOn(RepeatingThread):
    """Watches one VM on both sides: source and target must never run at the same time."""

    pause_s = 0.5

    def __init__(self, factory: Factory, name: str, namespace: str) -> None:
        super().__init__()
        self._namespace = namespace
        self._sessions = ExitStack()
        self._provider = self._sessions.enter_context(open_provider(factory.connections.get("lab-vcenter")))
        self._cluster = self._sessions.enter_context(factory.cluster())
        (self._vm,) = self._provider.vms([name])
        self.both_on = 0
        self.seen: set[tuple[bool, bool]] = set()

    def look(self) -> None:
        # The target is asked first: it only starts after the source has gone off.
        target = bool(self._cluster.find(INSTANCES, self._namespace))
        source = self._provider.power_state(self._vm) is PowerState.ON
        self.seen.add((source, target))
        self.both_on += source and target

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._sessions:
            super().__exit__(kind, error, trace)


def leaks_in_processes(canaries: Sequence[bytes]) -> set[str]:
    """Return `what of which process` for every command line or environment that holds a canary."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        for what in ("cmdline", "environ"):
            try:
                content = (process / what).read_bytes()
                name = (process / "comm").read_text().strip()
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue  # ended meanwhile
            if any(canary in content for canary in canaries):
                found.add(f"{what} of {name}")
    return found


def remote_addresses() -> set[str]:
    """Return every peer outside loopback that a process started since these tests has, or tries, to reach.

    What ran on the machine before is none of the factory's; a socket whose process has just ended is seen next time.
    """
    found = set()
    for table in ("tcp", "tcp6", "udp", "udp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            host, _, port = fields[2].partition(":")
            address = _address(host)
            if address.is_unspecified or address.is_loopback:
                continue
            if owner := _owner(fields[9], since=_started(os.getpid())):
                found.add(f"{table} {address}:{int(port, 16)} of {owner}")
    return found


def _owner(inode: str, *, since: int) -> str:
    """Return the name of the process with this socket if it started at `since` (clock ticks) or later, else ""."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            links = [str(fd.readlink()) for fd in (process / "fd").iterdir()]
            if f"socket:[{inode}]" in links and _started(int(process.name)) >= since:
                return (process / "comm").read_text().strip()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # ended meanwhile
    return ""


def _started(pid: int) -> int:
    """Return a process's start in clock ticks since the machine's boot."""
    text = Path(f"/proc/{pid}/stat").read_text()
    return int(text.rpartition(")")[2].split()[19])


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The kernel prints addresses as 32-bit words in the machine's byte order."""
    words = [int(text[i : i + 8], 16) for i in range(0, len(text), 8)]
    packed = struct.pack(f"={len(words)}I", *words)
    if len(packed) == 4:
        return ipaddress.IPv4Address(packed)
    six = ipaddress.IPv6Address(packed)
    return six.ipv4_mapped or six
