"""The waves' DAGs. `dags/waves.py` calls this and does nothing else.

The DAG processor asks for every DAG and compiles the plans; a starting task asks for one DAG and reads its outline.
"""

from __future__ import annotations

from airflow.sdk import DAG, get_parsing_context

from mtv.model.settings import Settings
from mtv.orchestration.left_waves import still_running
from mtv.orchestration.operators import StepOperators
from mtv.orchestration.outline import OutlineFolder
from mtv.orchestration.plans_folder import read_outlines
from mtv.orchestration.wave_dag import build_dag


def load_dags(settings: Settings | None = None) -> list[DAG]:
    """Return the asked DAG, or all of them. A plan that does not check becomes a DAG of its own and hides no other.

    A wave that has left its plan file while it runs keeps its DAGs until it has ended.
    """
    settings = settings or Settings.from_environ()
    folder = OutlineFolder(settings.outlines_folder)
    operators = StepOperators(settings)
    asked = get_parsing_context().dag_id
    if asked and (outline := folder.read(asked)):
        return [build_dag(outline, operators)]
    drawn = list(read_outlines(settings))
    drawn += still_running(drawn, folder, operators.runner.store)
    return [build_dag(folder.with_standing(outline), operators) for outline in drawn]
