"""One protocol for every source platform. Implementations: `vmware`, `ova`, `ovirt`, `openstack`.

A provider object is one logged-in session; use it as a context manager. It never changes disk contents or VM
configuration; power is the only thing it touches (and what `MakesCopies` says), and every call that does is announced
by the caller beforehand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Protocol, Self, runtime_checkable

from mtv.model.connection import Connection
from mtv.model.source import PowerState, SourceDisk, SourceVm, Thing
from mtv.model.transfer import DiskSource

Progress = Callable[[int, int], None]
"""Told how many VMs are read, of how many."""


class Provider(Protocol):
    """A session with a source platform."""

    connection: Connection

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def check(self) -> str:
        """Log in and return one line that says what answered (product and version). Raises `ConnectionRefused`."""
        ...

    def vms(self, names: Iterable[str] | None = None) -> list[SourceVm]:
        """Read VMs (all, or those named) in as few round trips as the platform allows.

        Names that do not exist are simply absent; of a name that several VMs have, all of them come, for whoever asked
        to tell them apart by their ids: a namesake may appear while a VM is on its way.
        """
        ...

    def identity(self, vm: SourceVm) -> str:
        """Return what names this VM alone, the same by every connection that leads to its source; "" is never it.

        Asks what answers now: a connection that has come to lead elsewhere gives the VM another identity there, unless
        the VM's id is unique in the world by itself.
        """
        ...

    def power_state(self, vm: SourceVm) -> PowerState:
        """Read the power state now."""
        ...

    def power_off(self, vm: SourceVm, *, timeout_s: float, asked_before: bool = False) -> str:
        """Ask the guest to shut down, power off after `timeout_s`; return how it ended.

        `asked_before`: a call that was cut off may have asked it already, so one that nobody can ask any more is given
        the time to go down, too.

        One of "already off", "guest shutdown", "power off". Raises `TemporaryError` if it is still on afterwards.
        """
        ...

    def power_on(self, vm: SourceVm) -> None:
        """Power on and wait until the platform says so."""
        ...

    def disk_source(self, vm: SourceVm, disk: SourceDisk, *, transport: str = "auto") -> DiskSource:
        """Return the wire type by which a mover pod reads this disk."""
        ...

    def pod_credentials(self) -> Mapping[str, str]:
        """Return credential files (name → content) for the mover's Secret; empty when none are needed."""
        ...


@runtime_checkable
class ListsThings(Protocol):
    """A provider that knows hosts, clusters, datastores and networks which no VM uses."""

    def things(self) -> list[Thing]:
        """Return what there was around the VMs when `vms` was called last; nothing more is asked of the source."""
        ...


@runtime_checkable
class Refuses(Protocol):
    """A provider whose source may hold things that look like VMs and cannot be taken."""

    refused: Mapping[str, str]
    """What the last `vms` could not take, to the reason."""


@runtime_checkable
class TellsProgress(Protocol):
    """A provider whose readings take long enough to be watched."""

    on_progress: Progress | None


@runtime_checkable
class TellsTags(Protocol):
    """A provider that has to log in once more to learn the tags of VMs: inventories and rules ask, steps need none."""

    def with_tags(self, vms: Sequence[SourceVm]) -> list[SourceVm]:
        """Return the VMs with their tags in their documents, or as they are where tags cannot be read."""
        ...


@runtime_checkable
class ForgetsStarts(Protocol):
    """A provider whose source tells by events that a VM which is off was started, and forgets old events."""

    def as_seen_before(self, now: SourceVm, before: SourceVm, seen_at: datetime) -> SourceVm:
        """Return `now` with the generations of `before`, which was seen at `seen_at`, where they mean the same."""
        ...


@runtime_checkable
class MakesCopies(Protocol):
    """A provider whose `disk_source` has to make something on the source first, and how that is removed again."""

    def release_disks(self, vm: SourceVm) -> list[str]:
        """Remove all that was made for this VM, also what a killed attempt left; return names. May be repeated."""
        ...
