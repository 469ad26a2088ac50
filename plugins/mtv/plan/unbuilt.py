"""Words of a plan that are understood but whose work is not built yet. A run refuses them; none is ignored."""

from __future__ import annotations

from mtv.model.plan import Plan, Wave
from mtv.plan.options import effective
from mtv.plan.origins import Origins
from mtv.plan.problems import Problem

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


def _found(plan: Plan, index: int, wave: Wave) -> list[tuple[tuple[str | int, ...], str]]:
    here = ("waves", index)
    found: list[tuple[tuple[str | int, ...], str]] = [
        ((*here, field), field) for field in ("schedule", "precopy") if getattr(wave, field)
    ]
    for position, planned in enumerate(wave.vms):
        vm = effective(plan, wave, planned)
        place = (*here, "vms", position)
        if vm.type == "warm":
            found.append(((*place, "type"), f"VM {vm.name} is to move warm"))
        if vm.enable_change_tracking:
            found.append(((*place, "enable_change_tracking"), f"VM {vm.name} is to have change tracking switched on"))
    return found
