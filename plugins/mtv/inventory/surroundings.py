"""What VMs stand on: hosts, clusters, datacenters, datastores, networks.

A workload document carries everything that its VM refers to, so each of these is found as often as VMs use it and kept
once. A provider that can list what there is (`ListsThings`) adds what no VM uses, and tells more of the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from mtv.model.source import SourceVm, Thing

EACH = "*"
PLACES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("host", ("host",)),
    ("cluster", ("host", "cluster")),
    ("cluster", ("cluster",)),
    ("datacenter", ("datacenter",)),
    ("datacenter", ("dataCenter",)),
    ("datastore", ("disks", EACH, "datastore")),
    ("datastore", ("diskAttachments", EACH, "disk", "storageDomain")),
    ("network", ("networks", EACH)),
    ("network", ("nics", EACH, "network")),
    ("network", ("nics", EACH, "profile", "network")),
    ("flavor", ("flavor",)),
    ("image", ("image",)),
)
"""Kinds of things, and where documents of the sources carry them."""


def things_of(vms: Iterable[SourceVm], listed: Iterable[Thing] = ()) -> list[Thing]:
    """Return what the VMs use and what is listed beside, each once, by kind and id.

    What is listed goes before what documents say; where these differ the fullest one counts.
    """
    known = {thing[:2]: thing._replace(document=_own(thing.document)) for thing in listed}
    used = {key: thing for key, thing in _used(vms).items() if key not in known}
    return sorted({**used, **known}.values(), key=lambda thing: thing[:2])


def _used(vms: Iterable[SourceVm]) -> dict[tuple[str, str], Thing]:
    found: dict[tuple[str, str], Thing] = {}
    for vm in vms:
        for kind, path in PLACES:
            for value in _at(vm.document, path):
                if not isinstance(value, Mapping) or not value.get("id"):
                    continue
                thing = Thing(kind, str(value["id"]), str(value.get("name") or ""), _own(value))
                known = found.get((kind, thing.key))
                if known is None or len(known.document) < len(thing.document):
                    found[kind, thing.key] = thing
    return found


def _at(value: Any, path: tuple[str, ...]) -> Iterator[Any]:
    if not path:
        yield value
    elif path[0] == EACH:
        for item in value if isinstance(value, list) else ():
            yield from _at(item, path[1:])
    elif isinstance(value, Mapping) and path[0] in value:
        yield from _at(value[path[0]], path[1:])


def _own(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return a thing's attributes; of another thing that it carries only the id and the name."""
    return {
        name: {"id": inner["id"], "name": inner.get("name", "")}
        if isinstance(inner, Mapping) and inner.get("id")
        else inner
        for name, inner in value.items()
    }
