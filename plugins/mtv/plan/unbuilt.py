"""Words of a plan that are understood but whose work is not built yet. A run refuses them; none is ignored."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mtv.model.plan import Plan, Wave
from mtv.plan.assemble import Draft
from mtv.plan.options import effective
from mtv.plan.origins import Origins
from mtv.plan.problems import Problem

_YES = ("true", "yes", "on", "y", "t", "1")
"""What the model takes for true, as sheets write it."""
_CURE = "take it out for now: this version cannot do it yet"


def not_built_yet(plan: Plan, wave: str | None = None, origins: Origins | None = None) -> list[Problem]:
    """Return what a run of the plan (or of one wave) would have to refuse, with places if `origins` knows them."""
    problems = []
    for index, candidate in enumerate(plan.waves):
        if wave is None or candidate.name == wave:
            for loc, what in _found(plan, index, candidate):
                message = f"wave {candidate.name}: {what}"
                if origins is not None:
                    problems.append(origins.problem(loc, message, _CURE))
                else:
                    problems.append(Problem(plan.name, 0, 0, message, _CURE))
    return problems


def check_unbuilt(draft: Draft) -> None:
    """Add the same to a plan that has other faults: all that is wrong with it is told in one go."""
    for index, wave in enumerate(draft.waves):
        found: list[tuple[tuple[str | int, ...], str]] = [
            ((field,), field) for field in ("schedule", "precopy") if wave.get(field)
        ]
        for position, vm in enumerate(wave["vms"]):
            levels = (vm, wave.get("defaults"), draft.raw.get("defaults"))
            place = ("vms", position)
            if _nearest(levels, "type") == "warm":
                found.append(((*place, "type"), _warm(vm.get("name"))))
            if str(_nearest(levels, "enable_change_tracking")).lower() in _YES:
                found.append(((*place, "enable_change_tracking"), _tracked(vm.get("name"))))
        for loc, what in found:
            draft.problem(("waves", index, *loc), f"wave {wave['name']}: {what}", _CURE)


def _nearest(levels: Iterable[Any], option: str) -> Any:
    said = (level.get(option) for level in levels if isinstance(level, dict))
    return next((value for value in said if value is not None), None)


def _warm(name: Any) -> str:
    return f"VM {name} is to move warm"


def _tracked(name: Any) -> str:
    return f"VM {name} is to have change tracking switched on"


def _found(plan: Plan, index: int, wave: Wave) -> list[tuple[tuple[str | int, ...], str]]:
    here = ("waves", index)
    found: list[tuple[tuple[str | int, ...], str]] = [
        ((*here, field), field) for field in ("schedule", "precopy") if getattr(wave, field)
    ]
    for position, planned in enumerate(wave.vms):
        vm = effective(plan, wave, planned)
        place = (*here, "vms", position)
        if vm.type == "warm":
            found.append(((*place, "type"), _warm(vm.name)))
        if vm.enable_change_tracking:
            found.append(((*place, "enable_change_tracking"), _tracked(vm.name)))
    return found
