"""The plans folder as it is now, as outlines.

Airflow draws a DAG when its processor comes by, up to half a minute after a plan was edited. A run that starts
meanwhile must walk the plan that its user sees in the file, or not start.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from mtv.model.errors import PermanentError, PlanError
from mtv.model.plan import Plan
from mtv.model.settings import Settings
from mtv.orchestration.outline import Outline, OutlineFolder, outlines_of, unreadable
from mtv.plan import CompiledPlan, compile_folder


def read_outlines(settings: Settings) -> Iterator[Outline]:
    """Compile the plans folder and yield one outline per DAG."""
    folder = OutlineFolder(settings.outlines_folder)
    for compiled in compile_folder(settings.plans_folder, settings.compiled_folder):
        yield from _outlines(compiled, folder)


def as_it_is_now(drawn: Outline, settings: Settings, log: Callable[[str], None]) -> Outline:
    """Return the outline of a DAG's wave as its plan file says now; `drawn` is what the DAG was drawn from.

    Raises `PlanError` when the plan does not check, `PermanentError` when the file no longer has the wave or the wave
    needs tasks that the drawn DAG has not.
    """
    now = next((outline for outline in read_outlines(settings) if outline.dag_id == drawn.dag_id), None)
    if now is None:
        raise PermanentError(
            f"{drawn.file} no longer has what {drawn.dag_id} was drawn from (wave {drawn.wave})",
            cure="look for the plan's DAGs again in a minute: Airflow draws them anew",
            code="WaveGone",
        )
    if now.problems:
        raise PlanError("; ".join(now.problems), code="PlanInvalid")
    if now.plan_hash == drawn.plan_hash:
        return now
    if now.next_part != drawn.next_part or not set(now.itineraries) <= set(drawn.itineraries):
        raise PermanentError(
            f"{drawn.file} was edited since Airflow drew {drawn.dag_id}, and the wave now needs other tasks",
            cure="start the run again in a minute, when the DAG is drawn anew; nothing was touched",
            code="PlanChanged",
        )
    log(f"{drawn.file} was edited since Airflow drew this DAG: the run takes the plan as the file is now")
    return now


def as_it_began(drawn: Outline, plan: Plan, log: Callable[[str], None]) -> Outline:
    """Return the outline of a part of a wave as `plan` says, which the part before it has frozen.

    Raises `PermanentError` when that plan has no such part, or when the part needs tasks that the drawn DAG has not.
    """
    began = next((outline for outline in outlines_of(plan, "", drawn.file) if outline.dag_id == drawn.dag_id), None)
    if began is None:
        raise PermanentError(
            f"wave {drawn.wave} began without {drawn.dag_id}: its VMs were added to {drawn.file} since",
            cure="when the wave has ended, start it again: it takes those that are not migrated",
            code="PartAdded",
        )
    if not set(began.itineraries) <= set(drawn.itineraries):
        raise PermanentError(
            f"{drawn.dag_id} was drawn from {drawn.file} as it was edited since the wave began, and lacks tasks of it",
            cure="start this part by hand: it then takes the plan as the file is now; nothing was touched",
            code="PlanChanged",
        )
    log(f"the wave goes on with the plan as {drawn.previous_part} has frozen it, whatever {drawn.file} says now")
    return began


def _outlines(compiled: CompiledPlan, folder: OutlineFolder) -> list[Outline]:
    file = compiled.path.name
    if not compiled.problems and (known := folder.of_plan(compiled.hash)) is not None:
        return folder.write(known)
    if (plan := compiled.plan) is not None:
        return folder.write_plan(compiled.hash, outlines_of(plan, compiled.hash, file))
    problems = tuple(str(problem) for problem in compiled.problems)
    # Runs that began before the file was broken go on as frozen, so their DAGs stay; new runs are refused.
    before = [msgspec.structs.replace(outline, problems=problems) for outline in folder.of_file(file)]
    return folder.write([unreadable(compiled.name, file, problems), *before])
