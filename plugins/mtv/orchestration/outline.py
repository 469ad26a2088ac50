"""Outlines: what a wave's DAG looks like, decided once from the plan and read back in one small file per DAG.

Every task start parses its DAG file again. An outline holds no VM, so building the asked DAG costs the same for
ten VMs and for ten thousand, and for one plan and for a thousand.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import msgspec

from mtv.itinerary.itineraries import itinerary_for
from mtv.model.plan import Plan, PlannedVm, Wave

MAX_VMS_PER_RUN = 100
"""A scheduler's cost grows with the pending task instances of active runs; a longer wave is cut into parts."""


class Outline(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The shape of one DAG.

    `part` counts from 1 when the wave is cut into parts of at most `MAX_VMS_PER_RUN` VMs, else 0.
    With `problems` no new run may start: the DAG fails with these messages.
    Without a `wave` the plan could not be read at all and the DAG has nothing else to do.
    """

    dag_id: str
    plan: str
    file: str
    plan_hash: str = ""
    wave: str = ""
    part: int = 0
    itineraries: tuple[str, ...] = ()
    max_vms_in_flight: int = 4
    vm_count: int = 0
    source: str = ""
    description: str = ""
    problems: tuple[str, ...] = ()

    @property
    def tags(self) -> list[str]:
        """What the DAG list can be filtered by."""
        tags = [f"plan:{self.plan}"]
        if self.source:
            tags.append(f"source:{self.source}")
        if self.wave:
            tags.append("mode:cold")
        if self.problems:
            tags.append("invalid")
        return tags


def vm_itinerary(plan: Plan, wave: Wave, vm: PlannedVm) -> str:
    """Return the name of the itinerary that a VM walks. Raises `ValueError` for a mode that is not built yet."""
    levels = (vm, wave.defaults, plan.defaults)
    vm_type = next((level.type for level in levels if level.type is not None), "cold")
    raw = next((level.skip_guest_conversion for level in levels if level.skip_guest_conversion is not None), False)
    return itinerary_for(vm_type=vm_type, skip_guest_conversion=raw).name


def parts_of(wave: Wave) -> list[tuple[int, tuple[PlannedVm, ...]]]:
    """Return the wave's VMs as numbered parts; a wave that fits one run is the single part 0."""
    if len(wave.vms) <= MAX_VMS_PER_RUN:
        return [(0, wave.vms)]
    cuts = range(0, len(wave.vms), MAX_VMS_PER_RUN)
    return [(number, wave.vms[start : start + MAX_VMS_PER_RUN]) for number, start in enumerate(cuts, start=1)]


def part_plan(plan: Plan, wave_name: str, part: int) -> Plan:
    """Return the plan with one wave reduced to the VMs of a part. Raises `KeyError` for an unknown wave or part."""
    if part == 0:
        return plan
    wave = plan.wave(wave_name)
    vms = dict(parts_of(wave))[part]
    waves = tuple(w.model_copy(update={"vms": vms}) if w.name == wave_name else w for w in plan.waves)
    return plan.model_copy(update={"waves": waves})


def outlines_of(plan: Plan, plan_hash: str, file: str) -> list[Outline]:
    """Return the outlines of a plan's waves, one per part. What is not built yet is named in `problems`."""
    found: list[Outline] = []
    for wave in plan.waves:
        problems = [*_not_built(plan, wave)]
        for part, vms in parts_of(wave):
            names: dict[str, None] = {}
            for vm in vms:
                try:
                    names[vm_itinerary(plan, wave, vm)] = None
                except ValueError as error:
                    problems.append(f"wave {wave.name}, VM {vm.name}: {error}")
            found.append(
                Outline(
                    dag_id=_dag_id(plan.name, wave.name, part),
                    plan=plan.name,
                    file=file,
                    plan_hash=plan_hash,
                    wave=wave.name,
                    part=part,
                    itineraries=tuple(names),
                    max_vms_in_flight=wave.max_vms_in_flight,
                    vm_count=len(vms),
                    source=plan.source.connection if plan.source else "",
                    description=plan.description,
                    problems=tuple(dict.fromkeys(problems)),
                )
            )
    twice = [dag_id for dag_id, count in Counter(o.dag_id for o in found).items() if count > 1]
    if twice:
        clash = f"two waves would share the DAG {', '.join(twice)} — rename the wave that ends in a number"
        return [unreadable(plan.name, file, (clash,))]
    return found


def unreadable(name: str, file: str, problems: tuple[str, ...]) -> Outline:
    """Return the outline of a plan that does not check: one red DAG that says why."""
    safe = re.sub(r"[^\w.-]+", "-", name).strip("-.") or "plan"
    return Outline(dag_id=f"mtv.{safe}.invalid", plan=safe, file=file, problems=problems)


def _dag_id(plan: str, wave: str, part: int) -> str:
    return f"mtv.{plan}.{wave}-{part:02d}" if part else f"mtv.{plan}.{wave}"


def _not_built(plan: Plan, wave: Wave) -> list[str]:
    """Name what the plan asks for and this version cannot do: refused aloud, never ignored."""
    del plan
    asked = {"approval": wave.approval is not None, "schedule": wave.schedule is not None}
    return [
        f"wave {wave.name}: {word} is not built yet — remove it and start the wave by hand"
        for word, is_asked in asked.items()
        if is_asked
    ]


class OutlineFolder:
    """The outlines on disk, one JSON file per DAG id."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, dag_id: str) -> Outline | None:
        """Return the outline of a DAG, or None when it was never written."""
        try:
            return msgspec.json.decode((self.folder / f"{dag_id}.json").read_bytes(), type=Outline)
        except FileNotFoundError:
            return None

    def write(self, outline: Outline) -> Outline:
        """Keep an outline and return it.

        Itineraries of an earlier version of the wave stay, so that a run that began before an edit finds its tasks.
        """
        before = self.read(outline.dag_id)
        if before is not None:
            names = dict.fromkeys((*outline.itineraries, *before.itineraries))
            outline = msgspec.structs.replace(outline, itineraries=tuple(names))
        if outline != before:
            self.folder.mkdir(parents=True, exist_ok=True)
            draft = self.folder / f".{outline.dag_id}.draft"
            draft.write_bytes(msgspec.json.encode(outline))
            draft.replace(self.folder / f"{outline.dag_id}.json")
        return outline

    def of_file(self, file: str) -> list[Outline]:
        """Return the waves that were last read from a plan file, in order of their ids."""
        known = [msgspec.json.decode(path.read_bytes(), type=Outline) for path in sorted(self.folder.glob("*.json"))]
        return [outline for outline in known if outline.file == file and outline.wave]
