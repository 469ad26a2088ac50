"""Look around while a wave runs: at processes and sockets, and at a VM on both sides."""

from __future__ import annotations

import ipaddress
import os
import struct
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from mtv.kubevirt.resources import INSTANCES
from mtv.model.source import PowerState
from mtv.providers.registry import open_provider

if TYPE_CHECKING:
    from tests.e2e.conftest import Factory

PAUSE_S = 0.05


class Watcher:
    """A thread that looks again and again until its block ends; what it found stands in `found`."""

    def __init__(self, canaries: Sequence[bytes]) -> None:
        self._canaries = canaries
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.rounds = 0
        self.leaks: set[str] = set()
        self.remote: set[str] = set()

    def __enter__(self) -> Watcher:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(timeout=30)

    def _run(self) -> None:
        while not self._stop.wait(PAUSE_S):
            self.leaks |= leaks_in_processes(self._canaries)
            self.remote |= remote_addresses()
            self.rounds += 1


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


class NeverBothOn:
    """Watches one VM on both sides: source and target must never run at the same time."""

    def __init__(self, factory: Factory, name: str, namespace: str) -> None:
        self._factory, self._name, self._namespace = factory, name, namespace
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.both_on = 0
        self.seen: set[tuple[bool, bool]] = set()
        self.error: BaseException | None = None

    def __enter__(self) -> NeverBothOn:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(timeout=60)
        if self.error is not None and error is None:
            raise self.error

    def _run(self) -> None:
        try:
            with (
                open_provider(self._factory.connections.get("lab-vcenter")) as provider,
                self._factory.cluster() as cluster,
            ):
                (vm,) = provider.vms([self._name])
                while not self._stop.wait(0.5):
                    # The target is asked first: it only starts after the source has gone off.
                    target = bool(cluster.find(INSTANCES, self._namespace))
                    source = provider.power_state(vm) is PowerState.ON
                    self.seen.add((source, target))
                    self.both_on += source and target
        except BaseException as error:  # noqa: BLE001  handed to the test's own thread
            self.error = error
