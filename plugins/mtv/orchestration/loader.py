"""Plan files to DAGs. `dags/waves.py` calls this and does nothing else.

The DAG processor asks for every DAG and compiles the plans; a starting task asks for one DAG and reads its outline.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from airflow.sdk import DAG, get_parsing_context

from mtv.model.settings import Settings
from mtv.orchestration.operators import StepOperators
from mtv.orchestration.outline import Outline, OutlineFolder, outlines_of, unreadable
from mtv.orchestration.wave_dag import build_dag
from mtv.plan import CompiledPlan, compile_folder


def load_dags(settings: Settings | None = None) -> list[DAG]:
    """Return the asked DAG, or all of them. A plan that does not check becomes a DAG of its own and hides no other."""
    settings = settings or Settings.from_environ()
    folder = OutlineFolder(settings.outlines_folder)
    operators = StepOperators(settings)
    asked = get_parsing_context().dag_id
    if asked and (outline := folder.read(asked)):
        return [build_dag(outline, operators)]
    outlines = [folder.write(outline) for outline in read_outlines(settings, folder)]
    return [build_dag(outline, operators) for outline in outlines if asked in (None, outline.dag_id)]


def read_outlines(settings: Settings, folder: OutlineFolder) -> Iterator[Outline]:
    """Compile the plans folder and yield one outline per DAG; ids are unique, a plan name used twice is a problem."""
    seen: dict[str, str] = {}
    for compiled in compile_folder(settings.plans_folder, settings.compiled_folder):
        file = compiled.path.name
        if compiled.name in seen:
            clash = f"{file}: the plan name {compiled.name!r} is also that of {seen[compiled.name]} — rename one"
            yield unreadable(compiled.path.stem, file, (clash,))
            continue
        seen[compiled.name] = file
        yield from _outlines(compiled, file, folder)


def _outlines(compiled: CompiledPlan, file: str, folder: OutlineFolder) -> Iterator[Outline]:
    if compiled.plan is not None and not compiled.problems:
        yield from outlines_of(compiled.plan, compiled.hash, file)
        return
    problems = tuple(str(problem) for problem in compiled.problems)
    yield unreadable(compiled.name, file, problems)
    # Runs that began before the file was broken go on as frozen, so their DAGs stay; new runs are refused.
    for outline in folder.of_file(file):
        yield msgspec.structs.replace(outline, problems=problems)
