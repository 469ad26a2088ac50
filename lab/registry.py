"""All parts of the lab by name. A part's module is imported only when that part is asked for."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterable, Iterator, Mapping
from functools import cache

from lab.parts import Part
from mtv.model.errors import PermanentError

_MODULES = {
    "cluster": "lab.cluster.part",
    "kubevirt": "lab.kubevirt.part",
    "vcenter": "lab.vcenter.part",
    "ova": "lab.ova.part",
    "airflow": "lab.airflow.part",
    "openstack": "lab.openstack.part",
}


class _Parts(Mapping[str, Part]):
    """Name to part, imported on first use."""

    def __getitem__(self, name: str) -> Part:
        if name not in _MODULES:
            raise KeyError(name)
        return _load(name)

    def __iter__(self) -> Iterator[str]:
        return iter(_MODULES)

    def __len__(self) -> int:
        return len(_MODULES)


PARTS: Mapping[str, Part] = _Parts()


def usual_parts() -> list[str]:
    """The parts that are meant when none is named."""
    return [name for name, part in PARTS.items() if not part.on_request]


def chosen(names: Iterable[str]) -> list[str]:
    """The named parts, all of them when none is named. Raises `PermanentError` for a name that is no part's."""
    found = list(names) or list(PARTS)
    for name in found:
        if name not in PARTS:
            raise PermanentError(f"the lab has no part {name!r}", cure=f"choose from: {', '.join(PARTS)}")
    return found


def with_needs(names: Iterable[str]) -> list[str]:
    """The named parts (none: all) and all that they need, each after what it needs: the order to start them in."""
    order: list[str] = []

    def visit(name: str) -> None:
        if name not in order:
            for need in PARTS[name].needs:
                visit(need)
            order.append(name)

    for name in chosen(names):
        visit(name)
    return order


def with_dependants(names: Iterable[str]) -> list[str]:
    """The named parts (none: all) and all that stand on them, each before what it needs: the order to stop them in."""
    wanted = set(chosen(names))
    everything = with_needs(PARTS)
    for name in everything:
        if wanted & set(PARTS[name].needs):
            wanted.add(name)
    return [name for name in reversed(everything) if name in wanted]


@cache
def _load(name: str) -> Part:
    module = importlib.import_module(_MODULES[name])
    kinds = [
        kind
        for _, kind in inspect.getmembers(module, inspect.isclass)
        if issubclass(kind, Part) and kind.__module__ == module.__name__ and not inspect.isabstract(kind)
    ]
    if len(kinds) != 1 or kinds[0].name != name:
        raise PermanentError(f"{module.__name__} must define exactly one part named {name!r}, not {kinds}")
    return kinds[0]()
