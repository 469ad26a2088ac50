"""The DAG of a source's inventory: `snapshot → validate`. `dags/inventory.py` makes one for each source of a plan.

It takes the inventory, says what changed, validates the VMs that did, and judges every plan that names the source. How
plans stand goes into the store and into the tags of their waves' DAGs.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, NoReturn

from airflow.sdk import DAG, Context, get_parsing_context
from airflow.sdk.bases.operator import BaseOperator
from airflow.sdk.exceptions import AirflowTaskTerminated

from mtv.model.settings import Settings
from mtv.orchestration.errors import as_airflow_errors
from mtv.orchestration.runner import StepRunner, log_lines
from mtv.plan import compile_folder

PREFIX = "mtv.inventory."
_PLAIN = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")


class InventoryOperator(BaseOperator):
    """A step of an inventory, run in the worker."""

    def __init__(self, *, step: str, source: str, runner: StepRunner, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.step = step
        self.source = source
        self.runner = runner

    def execute(self, context: Context) -> None:
        """Run the step."""
        del context
        with as_airflow_errors():
            self.runner.inventory_step(self.step, self.source, log_lines(self.log))

    def on_kill(self) -> NoReturn:
        """End the step where it stands."""
        raise AirflowTaskTerminated("the task was marked or cleared while its step was running")


def inventory_dag_id(source: str) -> str:
    """Return the id of a source's DAG; what a DAG id cannot hold is replaced, and a piece of a hash keeps it unique."""
    if _PLAIN.fullmatch(source):
        return PREFIX + source
    mark = hashlib.sha256(source.encode()).hexdigest()[:6]
    return f"{PREFIX}{re.sub(r'[^A-Za-z0-9_-]+', '-', source).strip('-')[:200]}-{mark}"


def load_inventory_dags(settings: Settings | None = None) -> list[DAG]:
    """Return the asked DAG, or one for each source connection that a plan of the plans folder names."""
    settings = settings or Settings.from_environ()
    runner = StepRunner(settings)
    asked = get_parsing_context().dag_id
    source = (asked or "").removeprefix(PREFIX)
    # A source's name that stands in the id as it is needs no look into the plans.
    if asked and asked == inventory_dag_id(source):
        return [build_inventory_dag(source, settings, runner)]
    return [build_inventory_dag(name, settings, runner) for name in _sources(settings)]


def build_inventory_dag(source: str, settings: Settings, runner: StepRunner) -> DAG:
    """Build the DAG of a source. It is created paused, runs on the installation's schedule and never catches up."""
    with DAG(
        dag_id=inventory_dag_id(source),
        description=f"Inventory of {source}",
        schedule=None if settings.inventory_schedule in ("", "off") else settings.inventory_schedule,
        catchup=False,
        is_paused_upon_creation=True,
        max_active_runs=1,
        default_args={"owner": "mtv", "retries": 2, "retry_delay": timedelta(seconds=settings.retry_delay_s)},
        tags=["inventory", f"source:{source}"],
        doc_md=f"Reads **{source}**, says what changed, validates it and judges the plans that name it.",
    ) as dag:
        common: dict[str, Any] = {"source": source, "runner": runner, "do_xcom_push": False}
        snapshot = InventoryOperator(task_id="snapshot", step="take", **common)
        snapshot >> InventoryOperator(task_id="validate", step="judge", **common)
    return dag


def _sources(settings: Settings) -> Iterator[str]:
    found: dict[str, None] = {}
    for compiled in compile_folder(settings.plans_folder, settings.compiled_folder):
        found.update(dict.fromkeys(source for wave in compiled.waves for source in wave.sources))
    yield from found
