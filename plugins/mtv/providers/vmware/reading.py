"""Reading an inventory: first what there is, then the VMs page by page, each page made into documents at once.

A page that fails is read again by itself: a session that ends every few seconds, or a connection that breaks, costs a
page and not the inventory. What vSphere's own objects take in memory is that of one page.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeVar

from mtv.model.source import SourceVm
from mtv.providers.base import Progress
from mtv.providers.vmware import collect
from mtv.providers.vmware.build import Draft, drafts_of, finish
from mtv.providers.vmware.session import Api, Session
from mtv.providers.vmware.surroundings import Surroundings, readable_name

T = TypeVar("T")

_TRIES = 3  # of one call whose connection breaks; an ended session is renewed once in each of them


class Read(NamedTuple):
    """What a reading found: the VMs, and everything around them."""

    vms: list[SourceVm]
    around: Surroundings


def read_vms(session: Session, names: Iterable[str] | None, on_progress: Progress | None = None) -> Read:
    """Read VMs, all or those named, in the order of their inventory paths.

    VMs that vanish meanwhile are absent.
    """
    wanted = None if names is None else set(names)
    if wanted is not None and not wanted:
        return Read([], Surroundings([]))

    def read(operation: Callable[[Api], T]) -> T:
        return session.run(operation, doing="read the inventory", tries=_TRIES)

    around = Surroundings(read(lambda api: collect.surroundings(api, listed=wanted is None)))
    ids = read(collect.vm_ids) if wanted is None else _named(read(_index), wanted)
    power_ons = read(collect.last_power_ons)
    if wanted is not None and power_ons.is_cut:
        # Others' events would push a VM's own out of the answer, as if it had changed while it stood still.
        for vm_id in ids:
            if vm_id not in power_ons.times:
                power_ons.times.update(read(_power_ons_of(vm_id)).times)
    field_names = read(collect.custom_fields)
    drafts: list[Draft] = []
    for start in range(0, len(ids), collect.PAGE_OBJECTS):
        page = ids[start : start + collect.PAGE_OBJECTS]
        drafts += drafts_of(read(_page(page)), around, field_names)
        if on_progress is not None:
            on_progress(start + len(page), len(ids))
    return Read(finish(drafts, around, power_ons.times), around)


def _page(ids: list[str]) -> Callable[[Api], list[collect.Found]]:
    def read(api: Api) -> list[collect.Found]:
        return collect.objects(api, [collect.vm_reference(api, vm_id) for vm_id in ids], collect.VM_PATHS)

    return read


def _power_ons_of(vm_id: str) -> Callable[[Api], collect.PowerOns]:
    return lambda api: collect.last_power_ons(api, vm_id)


def _index(api: Api) -> list[collect.Found]:
    return collect.virtual_machines(api, ("name",))


def _named(index: list[collect.Found], wanted: set[str]) -> list[str]:
    """Return the ids of the VMs of those names."""
    return [vm.id for vm in index if readable_name(vm.properties.get("name", "")) in wanted]
