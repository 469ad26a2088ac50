"""Inventories in the store: VMs with their workload documents, and what they stand on, version by version."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

import msgspec

from mtv.inventory.changes import in_words, kinds_out_of_sight
from mtv.inventory.surroundings import things_of
from mtv.model.source import SourceVm, Thing
from mtv.store import InventoryChange, InventoryMoment, InventoryObject, Store

VM = "vm"
"""Kind of the objects that are VMs; their document is the `SourceVm` as JSON."""


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """A moment that was recorded, the one before it, and what differs, one line for each object."""

    moment: InventoryMoment
    before: InventoryMoment | None
    changes: tuple[str, ...]


def record(
    store: Store,
    source: str,
    vms: Iterable[SourceVm],
    *,
    listed: Iterable[Thing] = (),
    keep: timedelta | None = None,
    now: datetime | None = None,
) -> Recorded:
    """Record all VMs of a source, what they stand on and what is listed beside; the first time nothing has changed.

    With `keep`, what is older is forgotten, but for the newest moment of it.
    """
    before = store.inventory_moment(source)
    moment = store.put_inventory(source, objects_of(vms, listed), keep=keep, now=now)
    return Recorded(
        moment=moment, before=before, changes=tuple(changes_between(store, before, moment)) if before else ()
    )


def changes_between(store: Store, before: InventoryMoment, now: InventoryMoment) -> list[str]:
    """Say what differs between two moments, one line for each object, by kind and name; measured values alone are no
    difference.
    """
    changes = sorted(store.inventory_changes(before, now), key=_by_name)
    unseen = kinds_out_of_sight(changes)
    lines = (
        in_words(change)
        for change in changes
        if change.kind not in unseen or (change.before is not None and change.now is not None)
    )
    return [line for line in lines if line]


def _by_name(change: InventoryChange) -> tuple[str, str, str]:
    one = change.now or change.before
    return change.kind, one.name.casefold() if one is not None else "", change.key


def objects_of(vms: Iterable[SourceVm], listed: Iterable[Thing] = ()) -> list[InventoryObject]:
    """Return VMs, what they stand on and what is listed beside as the store keeps them."""
    seen = list(vms)
    return [
        *(InventoryObject(kind=VM, key=vm.id, name=vm.name, document=msgspec.to_builtins(vm)) for vm in seen),
        *(
            InventoryObject(kind=thing.kind, key=thing.key, name=thing.name, document=thing.document)
            for thing in things_of(seen, listed)
        ),
    ]


def vms_at(store: Store, moment: InventoryMoment, *, name: str = "") -> list[SourceVm]:
    """Return the VMs of a moment (of one name, if asked) exactly as they were read then."""
    found = store.inventory(moment, kind=VM, name=name)
    return [msgspec.convert(one.document, SourceVm) for one in found]


def others_of(store: Store, missing: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Return the VMs that the newest inventory of a missing VM's source holds, by the id of the missing one.

    `missing` says which source each is missing from. VMs are told as name to where it lies, as far as that is known
    without its document: "". None where no inventory was taken.
    """
    known: dict[str, dict[str, str]] = {}
    for source in set(missing.values()):
        moment = store.inventory_moment(source)
        known[source] = dict.fromkeys(store.inventory_names(moment, kind=VM), "") if moment is not None else {}
    return {vm_id: known[source] for vm_id, source in missing.items()}
