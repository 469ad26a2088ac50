"""Parts: a wave of many VMs runs as several DAGs, one after the other, each of at most `MAX_VMS_PER_RUN` VMs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from mtv.model.plan import Plan, PlannedVm, Wave
from mtv.plan.assemble import Draft

T = TypeVar("T")

MAX_VMS_PER_RUN = 100
"""A scheduler's cost grows with the pending task instances of active runs; a longer wave is cut into parts."""


def parts_of(wave: Wave) -> list[tuple[int, tuple[PlannedVm, ...]]]:
    """Return the wave's VMs as numbered parts; a wave that fits one run is the single part 0."""
    return [(number, tuple(vms)) for number, vms in _cut(wave.vms)]


def part_name(wave: str, part: int) -> str:
    """Return what a part is called in the ids of DAGs: the wave's own name for a wave in one piece."""
    return f"{wave}-{part:02d}" if part else wave


def part_plan(plan: Plan, wave_name: str, part: int) -> Plan:
    """Return the plan with one wave reduced to the VMs of a part. Raises `KeyError` for an unknown wave or part."""
    if part == 0:
        return plan
    wave = plan.wave(wave_name)
    vms = dict(parts_of(wave))[part]
    waves = tuple(w.model_copy(update={"vms": vms}) if w.name == wave_name else w for w in plan.waves)
    return plan.model_copy(update={"waves": waves})


def check_part_names(draft: Draft) -> None:
    """Add every wave that is called like a part of another one: the two would share a DAG."""
    longer = {
        part_name(wave["name"], part): wave["name"] for wave in draft.waves for part, _ in _cut(wave["vms"]) if part
    }
    for index, wave in enumerate(draft.waves):
        name = wave["name"]
        if name in longer and len(_cut(wave["vms"])) == 1:
            draft.problem(
                ("waves", index, "name"),
                f"wave {name} is called like a part of wave {longer[name]}, which has more than {MAX_VMS_PER_RUN} VMs",
                f"rename wave {name}",
            )


def _cut(vms: Sequence[T]) -> list[tuple[int, Sequence[T]]]:
    if len(vms) <= MAX_VMS_PER_RUN:
        return [(0, vms)]
    cuts = range(0, len(vms), MAX_VMS_PER_RUN)
    return [(number, vms[start : start + MAX_VMS_PER_RUN]) for number, start in enumerate(cuts, start=1)]
