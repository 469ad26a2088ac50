"""Reading an engine: a page of VMs a request, with all that lies below them followed in the same request.

Where a page cannot be had whole (a permission is missing, a VM is deleted while it is read), its parts are asked for
one by one; what is still refused is reported, and a VM that is gone is left out.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from mtv.model.errors import ConnectionRefused, MtvError, PermanentError
from mtv.providers.base import Progress
from mtv.providers.ovirt.faults import BUSY, FORBIDDEN, GONE
from mtv.providers.ovirt.session import Session

_log = logging.getLogger(__name__)

PAGE_VMS = 100
_MAX_PAGES = 10_000
_MAX_PASSES = 3
_NAMES_PER_SEARCH = 20
_SEARCHABLE = re.compile(r'[^"*%\s]+')  # what an engine allows in a VM's name, and its search takes as it stands

PARTS: dict[str, str] = {
    "disk_attachments": "disk",
    "nics": "",
    "snapshots": "",
    "watchdogs": "",
    "cdroms": "",
    "host_devices": "",
    "graphics_consoles": "",
    "applications": "",
    "reported_devices": "",
}
"""What lies below a VM, by its attribute in the SDK, with what is followed from there."""

NUMA = "numa_nodes"
_SURROUNDINGS = (
    "data_centers",
    "clusters",
    "hosts",
    "networks",
    "vnic_profiles",
    "storage_domains",
    "disk_profiles",
)


class Found(NamedTuple):
    """A VM with its parts as attributes; `unreadable` names those parts that could not be had."""

    vm: Any
    unreadable: tuple[str, ...] = ()


class Around(NamedTuple):
    """The objects that VMs refer to, by collection; `unreadable` names collections that the user may not read."""

    objects: dict[str, list[Any]]
    unreadable: tuple[str, ...] = ()


def surroundings(session: Session) -> Around:
    """Read data centres, clusters, hosts, networks, NIC profiles, storage domains and disk profiles."""
    objects: dict[str, list[Any]] = {}
    unreadable: list[str] = []
    for name in _SURROUNDINGS:
        try:
            objects[name] = session.read(_lister(name), doing=f"read {_words(name)}")
        except ConnectionRefused as error:
            if error.code != FORBIDDEN:
                raise
            _log.warning("%s", error.message)
            unreadable.append(name)
    return Around(objects, tuple(unreadable))


def virtual_machines(session: Session, on_progress: Progress | None = None) -> list[Found]:
    """Read every VM that the user may see; `on_progress` is told after each page.

    Pages are cut from the list as it is at each request: when VMs came or went meanwhile, one may have slipped from a
    page to come into a page that was read. Then everything is read again, and what was seen at any time is returned.
    """
    seen: dict[str, Found] = {}
    for _ in range(_MAX_PASSES):
        before = _vms_in_total(session)
        for number, found in enumerate(_pages(session, ""), start=1):
            seen[found.vm.id] = found
            if on_progress is not None and number % PAGE_VMS == 0:
                on_progress(number, before)
        if _vms_in_total(session) == before:
            break
    return list(seen.values())


def virtual_machines_named(session: Session, names: Iterable[str]) -> list[Found]:
    """Read the VMs of these names. An engine's search knows wildcards and no case, so what it finds is compared."""
    wanted = sorted({name for name in names if _SEARCHABLE.fullmatch(name)})
    found: list[Found] = []
    for start in range(0, len(wanted), _NAMES_PER_SEARCH):
        search = " or ".join(f'name="{name}"' for name in wanted[start : start + _NAMES_PER_SEARCH])
        found += [each for each in _pages(session, search) if each.vm.name in set(wanted)]
    return found


def _vms_in_total(session: Session) -> int:
    api = session.read(lambda system: system.get(), doing="ask how many VMs there are")
    return int(api.summary.vms.total) if api.summary is not None and api.summary.vms is not None else 0


def _pages(session: Session, search: str) -> Iterator[Found]:
    for number in range(1, _MAX_PAGES + 1):
        page, count = _page(session, f"{search} sortby name page {number}".strip())
        for found in page:
            yield _with_numa(session, found)
        if count < PAGE_VMS:
            return


def _page(session: Session, search: str) -> tuple[list[Found], int]:
    """Return the VMs of a page, and how many there were before some of them vanished."""
    paths = [f"{name}.{rest}" if rest else name for name, rest in PARTS.items()]
    try:
        vms = _list(session, search, ",".join(paths))
        return [Found(vm) for vm in vms], len(vms)
    except MtvError as error:
        if error.code not in (FORBIDDEN, GONE, BUSY):
            raise
        _log.info("%s; reading its parts one by one", error.message)
    vms = _list(session, search, "")
    unreadable: dict[str, list[str]] = {vm.id: [] for vm in vms}
    for name, path in zip(PARTS, paths, strict=True):
        _fill(session, search, name, path, vms, unreadable)
    return [Found(vm, tuple(unreadable[vm.id])) for vm in vms if vm.id in unreadable], len(vms)


def _fill(
    session: Session, search: str, name: str, path: str, vms: Sequence[Any], unreadable: dict[str, list[str]]
) -> None:
    """Read one part of all VMs of a page; VMs that are gone leave `unreadable`."""
    try:
        told = {vm.id: getattr(vm, name) or [] for vm in _list(session, search, path)}
    except MtvError as error:
        if error.code not in (FORBIDDEN, GONE, BUSY):
            raise
        told = {}
    for vm in vms:
        if vm.id not in unreadable:
            continue
        if vm.id in told:
            setattr(vm, name, told[vm.id])
            continue
        try:
            setattr(vm, name, _part(session, vm, name))
        except PermanentError as error:
            if error.code == GONE:
                del unreadable[vm.id]
            elif error.code == FORBIDDEN:
                _log.warning("%s", error.message)
                unreadable[vm.id].append(name)
            else:
                raise


def _list(session: Session, search: str, follow: str) -> list[Any]:
    def ask(system: Any) -> list[Any]:
        return list(system.vms_service().list(search=search, max=PAGE_VMS, follow=follow or None))

    what = "all that is below them" if "," in follow else follow.replace("_", " ")
    return session.read(ask, doing="read VMs" + (f" with {what}" if follow else ""))


def _part(session: Session, vm: Any, name: str) -> list[Any]:
    def ask(system: Any) -> list[Any]:
        service = getattr(system.vms_service().vm_service(vm.id), f"{name}_service")()
        return list(service.list(follow=PARTS.get(name) or None))

    return session.read(ask, doing=f"read {_words(name)} of {vm.name}")


def _with_numa(session: Session, found: Found) -> Found:
    """Read the NUMA nodes of a VM that is tied to hosts; only such a VM can be tied to their nodes.

    They cannot be followed: the SDK would read them as nodes of a host, which have no ties.
    """
    policy = found.vm.placement_policy
    if policy is None or not policy.hosts:
        found.vm.numa_nodes = []
        return found
    try:
        found.vm.numa_nodes = _part(session, found.vm, NUMA)
    except PermanentError as error:
        if error.code not in (FORBIDDEN, GONE):
            raise
        return Found(found.vm, (*found.unreadable, NUMA))
    return found


def _lister(name: str) -> Callable[[Any], list[Any]]:
    return lambda system: list(getattr(system, f"{name}_service")().list())


def _words(name: str) -> str:
    return name.replace("_", " ")
