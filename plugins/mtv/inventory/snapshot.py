"""A snapshot: the VMs of a source as they were in one moment, as values and as tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from mtv.model.source import SourceVm
from mtv.providers.base import Provider

if TYPE_CHECKING:
    from mtv.inventory.tables import Tables


@dataclass(frozen=True)
class Snapshot:
    """VMs in the provider's order; `missing` are wanted names that the source does not hold, sorted."""

    vms: tuple[SourceVm, ...]
    missing: tuple[str, ...] = ()

    @cached_property
    def tables(self) -> Tables:
        """The same as pandas tables (see `mtv.inventory.tables`), made when first asked for."""
        from mtv.inventory.tables import tables_of  # pandas costs a third of a second, which steps need not pay

        return tables_of(self.vms)

    @cached_property
    def unreadable(self) -> dict[str, list[str]]:
        """What the user may not read, each with the names of the VMs that it is missing of."""
        found: dict[str, list[str]] = {}
        for vm in self.vms:
            for what in vm.document.get("unreadable", ()):
                found.setdefault(str(what), []).append(vm.name)
        return found

    def vm(self, name: str) -> SourceVm:
        """Return the VM of that name. Raises `KeyError`."""
        for vm in self.vms:
            if vm.name == name:
                return vm
        raise KeyError(name)


@runtime_checkable
class _TellsProgress(Protocol):
    """A provider whose readings take long enough to be watched."""

    on_progress: Callable[[int, int], None] | None


def snapshot(
    provider: Provider, names: Iterable[str] | None = None, *, on_progress: Callable[[int, int], None] | None = None
) -> Snapshot:
    """Read VMs (all, or those named) from an open provider; `on_progress` is told how many are read, of how many."""
    wanted = None if names is None else list(dict.fromkeys(names))
    if isinstance(provider, _TellsProgress):
        provider.on_progress = on_progress
    vms = tuple(provider.vms(wanted))
    found = {vm.name for vm in vms}
    return Snapshot(vms=vms, missing=tuple(sorted(set(wanted or ()) - found)))
