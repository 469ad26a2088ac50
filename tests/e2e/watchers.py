"""Look around while a wave runs: at processes and sockets, and at a VM on both sides."""

from __future__ import annotations

import ipaddress
import json
import os
import struct
import threading
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from mtv.kubevirt import labels
from mtv.kubevirt.resources import INSTANCES, PODS
from mtv.model.source import PowerState
from mtv.providers.registry import open_provider
from tests.leaks import Rows, Secrets, fernet_of, small_files

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

    def __init__(self, secrets: Secrets) -> None:
        super().__init__()
        self._secrets = secrets
        self.leaks: set[str] = set()
        self.remote: set[str] = set()

    def look(self) -> None:
        self.leaks |= leaks_in_processes(self._secrets)
        self.remote |= remote_addresses()


class PeerWatcher(RepeatingThread):
    """Peers outside loopback alone (`remote`), for the time before there are secrets."""

    def __init__(self) -> None:
        super().__init__()
        self.remote: set[str] = set()

    def look(self) -> None:
        self.remote |= remote_addresses()


class PodWatcher(RepeatingThread):
    """Pods of a namespace while they are there: specs of the movers' by role (`movers`), and names of those that hold
    a secret (`leaks`).
    """

    pause_s = 0.5

    def __init__(self, factory: Factory, namespace: str, secrets: Secrets) -> None:
        super().__init__()
        self._factory, self._namespace, self._secrets = factory, namespace, secrets
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
            if self._secrets.in_bytes(json.dumps(pod).encode()):
                self.leaks.add(pod["metadata"]["name"])


class PlaceWatcher(RepeatingThread):
    """What goes with the wave, looked through while it is there: logs of pods (`log`), small files of volumes, journals
    among them (`volume`), and rows of triggers in clear (`trigger`). `seen` are the places that held anything.
    """

    pause_s = 1.0

    def __init__(self, factory: Factory, secrets: Secrets) -> None:
        super().__init__()
        cluster = factory.state.folder("cluster")
        self._folders = {"log": cluster / "log" / "pods", "volume": cluster / "volumes"}
        self._rows = Rows(factory.endpoints["database"], fernet_of(Path(factory.endpoints["home"]) / "airflow.cfg"))
        self._secrets = secrets
        self.seen: set[str] = set()
        self.leaks: set[str] = set()

    def _run(self) -> None:
        with self._rows.opened() as self._database:
            self._triggers = self._rows.tables(self._database)["trigger"]
            super()._run()

    def look(self) -> None:
        for place, folder in self._folders.items():
            for path, content in small_files(folder):
                self._look_into(place, f"{place} {path.relative_to(folder)}", content)
        for text in self._rows.texts(self._database, self._triggers):
            self._look_into("trigger", "trigger", text)

    def _look_into(self, place: str, name: str, content: bytes) -> None:
        if content:
            self.seen.add(place)
        if self._secrets.in_bytes(content):
            self.leaks.add(name)


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


def leaks_in_processes(secrets: Secrets) -> set[str]:
    """Return `what of which process` for every command line or environment that holds a secret.

    Root sees all of them; an ordinary user does not see those of pods, which have users of their own.
    """
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        for what in ("cmdline", "environ"):
            try:
                content = (process / what).read_bytes()
                name = (process / "comm").read_text().strip()
            except (FileNotFoundError, ProcessLookupError):
                continue  # ended meanwhile
            except PermissionError:
                if os.geteuid() == 0 and _started(int(process.name)) >= _started(os.getpid()):
                    raise
                continue
            if secrets.in_bytes(content):
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
            holds = any(_link(fd) == f"socket:[{inode}]" for fd in (process / "fd").iterdir())
            if holds and _started(int(process.name)) >= since:
                return (process / "comm").read_text().strip()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # ended meanwhile
    return ""


def _link(fd: Path) -> str:
    """Return what a descriptor is of; nothing of one that was closed meanwhile, which says nothing of the others."""
    try:
        return str(fd.readlink())
    except FileNotFoundError:
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
