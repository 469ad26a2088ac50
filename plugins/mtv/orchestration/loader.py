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
    outlines = read_outlines(settings, folder)
    return [build_dag(folder.with_standing(outline), operators) for outline in outlines]


def read_outlines(settings: Settings, folder: OutlineFolder) -> Iterator[Outline]:
    """Compile the plans folder and yield one outline per DAG."""
    for compiled in compile_folder(settings.plans_folder, settings.compiled_folder):
        yield from _outlines(compiled, folder)


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
