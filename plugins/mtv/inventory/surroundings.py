"""What VMs stand on, gathered from their workload documents: hosts, clusters, datacenters, datastores, networks.

A workload document carries everything that its VM refers to, so each of these is found as often as VMs use it and kept
once. What no VM uses is not listed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from mtv.model.source import SourceVm

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


class Thing(NamedTuple):
    """Something that VMs use: its kind, its id at the source, its name and its own attributes."""

    kind: str
    key: str
    name: str
    document: dict[str, Any]


def things_of(vms: Iterable[SourceVm]) -> list[Thing]:
    """Return what the VMs use, each once, by kind and id. Where documents differ the fullest one counts."""
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
    return sorted(found.values(), key=lambda thing: thing[:2])


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
