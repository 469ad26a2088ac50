"""Outlines: what a wave's DAG looks like, decided once from the plan and read back in one small file per DAG.

Every task start parses its DAG file again. An outline holds no VM, so building the asked DAG costs the same for
ten VMs and for ten thousand, and for one plan and for a thousand.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable
from pathlib import Path
from typing import TypeVar

import msgspec

from mtv.itinerary.itineraries import itinerary_for
from mtv.model.errors import NOT_UNDERSTOOD
from mtv.model.plan import Plan, PlannedVm, Wave
from mtv.model.whole_files import write_whole
from mtv.plan import effective, not_built_yet
from mtv.plan.parts import part_name, parts_of

T = TypeVar("T")


class Outline(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The shape of one DAG.

    `part` counts from 1 when the wave is cut into parts, else 0; `next_part` is the DAG that a part starts when it has
    ended.
    With `problems` no new run may start: the DAG fails with these messages.
    Without a `wave` the plan could not be read at all and the DAG has nothing else to do.
    `standing` is `ready` or `not ready` as an inventory last judged the plan; empty before, and never kept.
    """

    dag_id: str
    plan: str
    file: str
    plan_hash: str = ""
    wave: str = ""
    part: int = 0
    next_part: str = ""
    itineraries: tuple[str, ...] = ()
    max_vms_in_flight: int = 4
    vm_count: int = 0
    sources: tuple[str, ...] = ()
    description: str = ""
    problems: tuple[str, ...] = ()
    standing: str = ""

    @property
    def previous_part(self) -> str:
        """The DAG of the part before this one; empty for the first and for a wave in one piece."""
        return _dag_id(self.plan, self.wave, self.part - 1) if self.part > 1 else ""

    @property
    def tags(self) -> list[str]:
        """What the DAG list can be filtered by."""
        tags = [f"plan:{self.plan}", *(f"source:{source}" for source in self.sources)]
        if self.wave:
            tags.append("mode:cold")
        if self.problems:
            tags.append("invalid")
        elif self.standing:
            tags.append(self.standing)
        return tags


def vm_itinerary(plan: Plan, wave: Wave, vm: PlannedVm) -> str:
    """Return the name of the itinerary that a VM walks. Raises `ValueError` for a mode that is not built yet."""
    options = effective(plan, wave, vm)
    return itinerary_for(vm_type=options.type, skip_guest_conversion=options.skip_guest_conversion).name


def outlines_of(plan: Plan, plan_hash: str, file: str) -> list[Outline]:
    """Return the outlines of a plan's waves, one per part. What is not built yet is named in `problems`."""
    found: list[Outline] = []
    for wave in plan.waves:
        problems = _not_built(plan, wave)
        parts = parts_of(wave)
        for part, vms in parts:
            names, unknown = _itineraries(plan, wave, vms)
            found.append(
                Outline(
                    dag_id=_dag_id(plan.name, wave.name, part),
                    plan=plan.name,
                    file=file,
                    plan_hash=plan_hash,
                    wave=wave.name,
                    part=part,
                    next_part=_dag_id(plan.name, wave.name, part + 1) if 0 < part < len(parts) else "",
                    itineraries=names,
                    max_vms_in_flight=wave.max_vms_in_flight,
                    vm_count=len(vms),
                    sources=tuple(dict.fromkeys(effective(plan, wave, vm).source for vm in vms)),
                    description=plan.description,
                    problems=tuple(dict.fromkeys((*problems, *unknown))),
                )
            )
    return found


def _itineraries(plan: Plan, wave: Wave, vms: Iterable[PlannedVm]) -> tuple[tuple[str, ...], list[str]]:
    """Return the itineraries that the VMs walk, in order of first appearance, and what nobody can walk yet."""
    names: dict[str, None] = {}
    unknown: list[str] = []
    for vm in vms:
        try:
            names[vm_itinerary(plan, wave, vm)] = None
        except ValueError as error:
            unknown.append(f"wave {wave.name}, VM {vm.name}: {error}")
    return tuple(names), unknown


def unreadable(name: str, file: str, problems: tuple[str, ...]) -> Outline:
    """Return the outline of a plan that does not check: one red DAG that says why."""
    safe = re.sub(r"\.{2,}", ".", re.sub(r"[^\w.-]+", "-", name)).strip("-.") or "plan"
    return Outline(dag_id=f"mtv.{safe}.invalid", plan=safe, file=file, problems=problems)


def _dag_id(plan: str, wave: str, part: int) -> str:
    return f"mtv.{plan}.{part_name(wave, part)}"


def _not_built(plan: Plan, wave: Wave) -> list[str]:
    """Name what the wave asks for and this version cannot do: refused aloud, never ignored."""
    return [str(problem) for problem in not_built_yet(plan, wave.name)]


class OutlineFolder:
    """The outlines on disk: one JSON file per DAG id for tasks, and one per plan's content for the DAG processor."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, dag_id: str) -> Outline | None:
        """Return the outline of a DAG, or None when it was never written."""
        return _read(self.folder / f"{dag_id}.json", Outline)

    def of_plan(self, plan_hash: str) -> list[Outline] | None:
        """Return what was written for a plan of this content, or None."""
        return _read(self.folder / "plans" / f"{plan_hash}.json", list[Outline])

    def of_file(self, file: str) -> list[Outline]:
        """Return the waves that were last read from a plan file, in order of their ids."""
        found = (_read(path, Outline) for path in sorted(self.folder.glob("*.json")))
        return [outline for outline in found if outline is not None and outline.file == file and outline.wave]

    def others_than(self, dag_ids: Container[str]) -> list[Outline]:
        """Return the waves that were drawn once and are none of these DAGs, in order of their ids."""
        found = (_read(path, Outline) for path in sorted(self.folder.glob("*.json")) if path.stem not in dag_ids)
        return [outline for outline in found if outline is not None and outline.wave]

    def forget(self, dag_id: str) -> None:
        """Forget the outline of a DAG; nothing to do when there is none."""
        (self.folder / f"{dag_id}.json").unlink(missing_ok=True)

    def write(self, outlines: Iterable[Outline]) -> list[Outline]:
        """Keep outlines and return them.

        Itineraries and the following part of an earlier version of a wave stay, so that a run that began before an
        edit finds its tasks; who has no use for one of them skips it.
        """
        kept = []
        for outline in outlines:
            before = self.read(outline.dag_id)
            if before is not None:
                names = dict.fromkeys((*outline.itineraries, *before.itineraries))
                following = outline.next_part or before.next_part
                outline = msgspec.structs.replace(outline, itineraries=tuple(names), next_part=following)
            if outline != before:
                _write(self.folder / f"{outline.dag_id}.json", outline)
            kept.append(outline)
        return kept

    def with_standing(self, outline: Outline) -> Outline:
        """Return the outline with what an inventory last said of its plan, if that was said of this content."""
        words = _read(self.folder / "standings" / f"{outline.plan_hash}.json", str) if outline.plan_hash else None
        return msgspec.structs.replace(outline, standing=words) if words else outline

    def write_standing(self, plan_hash: str, *, is_ready: bool) -> None:
        """Keep how the plan of this content stands, where the DAG processor finds it without the store."""
        words = "ready" if is_ready else "not ready"
        path = self.folder / "standings" / f"{plan_hash}.json"
        if _read(path, str) != words:
            _write(path, words)

    def write_plan(self, plan_hash: str, outlines: Iterable[Outline]) -> list[Outline]:
        """Keep all outlines of a plan's content, so that the plan itself is not read again; return them."""
        kept = self.write(outlines)
        _write(self.folder / "plans" / f"{plan_hash}.json", kept)
        return kept


def _read(path: Path, kind: type[T]) -> T | None:
    """Read one file; one that is missing, damaged or of another version counts as never written."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (FileNotFoundError, *NOT_UNDERSTOOD):
        return None


def _write(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, msgspec.json.encode(value))
