"""A snapshot: the VMs of a source as they were in one moment, as values and as tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from mtv.inventory.surroundings import things_of
from mtv.model.source import SourceVm, Thing
from mtv.providers.base import ListsThings, Progress, Provider, Refuses, TellsProgress, TellsTags

if TYPE_CHECKING:
    from mtv.inventory.tables import Tables


@dataclass(frozen=True)
class Snapshot:
    """VMs in the provider's order; `missing` are wanted names that the source does not hold, sorted.

    `listed` are hosts, clusters, datastores … that the provider lists beside the VMs, when all of them were read.
    `refused` are things of the source that could not be taken, such as a damaged appliance, to the reason.
    """

    vms: tuple[SourceVm, ...]
    missing: tuple[str, ...] = ()
    listed: tuple[Thing, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def tables(self) -> Tables:
        """The same as pandas tables (see `mtv.inventory.tables`), made when first asked for."""
        from mtv.inventory.tables import tables_of  # pandas costs a third of a second, which steps need not pay

        return tables_of(self.vms, self.things)

    @cached_property
    def things(self) -> list[Thing]:
        """What the VMs use and what is listed beside, each once."""
        return things_of(self.vms, self.listed)

    @cached_property
    def unreadable(self) -> dict[str, list[str]]:
        """What the user may not read, each with the names of the VMs (or hosts, datastores …) that it is missing of."""
        found: dict[str, list[str]] = {}
        documents = [*((vm.name, vm.document) for vm in self.vms), *((one.name, one.document) for one in self.listed)]
        for name, document in documents:
            for what in document.get("unreadable", ()):
                found.setdefault(str(what), []).append(name)
        return found

    def vm(self, name: str) -> SourceVm:
        """Return the VM of that name. Raises `KeyError`."""
        for vm in self.vms:
            if vm.name == name:
                return vm
        raise KeyError(name)


def snapshot(
    provider: Provider, names: Iterable[str] | None = None, *, on_progress: Progress | None = None
) -> Snapshot:
    """Read VMs (all, or those named) from an open provider; `on_progress` is told how many are read, of how many."""
    wanted = None if names is None else list(dict.fromkeys(names))
    if isinstance(provider, TellsProgress):
        provider.on_progress = on_progress
    vms = provider.vms(wanted)
    if isinstance(provider, TellsTags):
        vms = provider.with_tags(vms)
    found = {vm.name for vm in vms}
    listed = tuple(provider.things()) if wanted is None and isinstance(provider, ListsThings) else ()
    refused = dict(provider.refused) if isinstance(provider, Refuses) else {}
    return Snapshot(vms=tuple(vms), missing=tuple(sorted(set(wanted or ()) - found)), listed=listed, refused=refused)
