"""The DAG of one wave.

    freeze ─ snapshot_inventory ─ validate ─┬─ cold[vm]      prepare ─ transfer ─ … ─ settle ─┬─ report ─ verdict
                                            └─ cold-raw[vm]  prepare ─ transfer ─ … ─ settle ─┘

`prepare` is a set-up, so that clearing a later step of a VM brings it back too. `settle` is a teardown, because a
teardown is the only task that still runs when the run is marked failed. It hangs on every step of its VM but
`prepare`: a teardown behind a failed set-up would be skipped, and a VM whose `prepare` failed half-way needs it most.
`report` is a teardown too, so that a run marked failed closes its books. `verdict` is the leaf that fails the run.
"""

from __future__ import annotations

from typing import Any, Protocol

from airflow.sdk import DAG, TriggerRule, task_group
from airflow.sdk.bases.operator import BaseOperator

from mtv.itinerary.itineraries import BY_NAME, Itinerary, Step
from mtv.orchestration.outline import Outline


class Operators(Protocol):
    """Makes the tasks of a wave's DAG; the benchmark has its own that do nothing."""

    def refuse(self, outline: Outline) -> BaseOperator:
        """Return the task that fails with the outline's problems."""
        ...

    def run_step(self, name: str, outline: Outline, **options: Any) -> BaseOperator:
        """Return the task of a step of the whole run; `freeze` returns the run's VM ids."""
        ...

    def pick(self, itinerary: Itinerary, outline: Outline, **options: Any) -> BaseOperator:
        """Return the task that picks the frozen VMs of one itinerary."""
        ...

    def vm_step(self, step: Step, vm_id: Any, outline: Outline, **options: Any) -> BaseOperator:
        """Return the task of one step of one VM; `vm_id` is decided when the group is expanded."""
        ...


def build_dag(outline: Outline, operators: Operators) -> DAG:
    """Build the DAG of an outline. It is created paused, has no schedule and never catches up."""
    with DAG(
        dag_id=outline.dag_id,
        description=outline.description or None,
        schedule=None,
        catchup=False,
        is_paused_upon_creation=True,
        max_active_runs=1,
        max_active_tasks=max(2 * outline.max_vms_in_flight, 16),
        default_args={"weight_rule": "upstream", "owner": "mtv"},
        tags=outline.tags,
        doc_md=_describe(outline),
    ) as dag:
        if outline.wave:
            _add_wave(outline, operators)
        else:
            operators.refuse(outline)
    return dag


def _add_wave(outline: Outline, operators: Operators) -> None:
    freeze = operators.run_step("freeze", outline)
    snapshot = operators.run_step("snapshot_inventory", outline)
    validate = operators.run_step("validate", outline)
    report = operators.run_step("report", outline)
    verdict = operators.run_step("verdict", outline, trigger_rule=TriggerRule.ALL_DONE)
    report.is_teardown = True
    report.trigger_rule = TriggerRule.ALL_DONE_SETUP_SUCCESS
    freeze >> snapshot >> validate
    for name in outline.itineraries:
        itinerary = BY_NAME[name]
        if len(outline.itineraries) == 1:
            vm_ids = freeze.output
        else:
            pick = operators.pick(itinerary, outline)
            freeze >> pick
            vm_ids = pick.output
        first, last = _add_group(itinerary, vm_ids, outline, operators)
        validate >> first
        last >> report
    validate >> report >> verdict


def _add_group(
    itinerary: Itinerary, vm_ids: Any, outline: Outline, operators: Operators
) -> tuple[BaseOperator, BaseOperator]:
    """Add one itinerary as a task group mapped over VM ids; return its first and its last task."""
    tasks: list[BaseOperator] = []

    def walk(vm_id: Any) -> None:
        for step in itinerary.steps:
            task = operators.vm_step(step, vm_id, outline)
            if step.setup:
                task.is_setup = True
            if step.teardown:
                task.is_teardown = True
                task.trigger_rule = TriggerRule.ALL_DONE_SETUP_SUCCESS
                [before for before in tasks if not before.is_setup] >> task
            elif tasks:
                tasks[-1] >> task
            tasks.append(task)

    task_group(group_id=itinerary.name)(walk).expand(vm_id=vm_ids)
    return tasks[0], tasks[-1]


def _describe(outline: Outline) -> str:
    lines = [f"Plan **{outline.plan}** from `{outline.file}`"]
    if outline.wave:
        part = f", part {outline.part}" if outline.part else ""
        lines.append(f"wave **{outline.wave}**{part}: {outline.vm_count} VMs, {outline.max_vms_in_flight} in flight")
    if outline.problems:
        lines.append("**It does not check:**")
        lines.extend(f"- `{problem}`" for problem in outline.problems)
    return "\n\n".join(lines)
