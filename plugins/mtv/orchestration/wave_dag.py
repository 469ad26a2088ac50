"""The DAG of one wave.

    freeze ─ snapshot_inventory ─ validate ─┬─ cold[vm]      prepare ─ transfer ─ … ─ settle ─┬─ report ─ verdict
                                            └─ cold-raw[vm]  prepare ─ transfer ─ … ─ settle ─┘      └─ next_part, of a
                                                                                                        long wave

What hangs on what was decided by measuring (docs/bench-wave.md) and by reading the scheduler:

- `settle`, `report` and `verdict` are teardowns: a teardown is the only task that still runs when a run is marked
  failed. `verdict` also fails the run: with an ordinary leaf, a run that is marked failed would end green, because the
  leaf is skipped and a skipped leaf counts as a success.
- `next_part` stands beside `verdict`: behind it, it alone would decide the run's state, green when it has handed over.
- `prepare` is no set-up. A teardown behind a failed set-up does not run, and a VM whose `prepare` failed half-way needs
  `settle` most. Nor does clearing a mapped task bring its set-up back; the steps themselves say what to clear.
- The parts of a long wave follow each other: a plan has one active run, and what a scheduler spends grows with the
  pending tasks of all. A part hands over when it has ended, whatever became of its VMs; not when it was marked failed.
- Each task hangs on the one before it only. A scheduler asks several queries for every edge of every pending task
  instance in every loop.
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

    def next_part(self, outline: Outline, **options: Any) -> BaseOperator:
        """Return the task that starts the following part of a long wave."""
        ...

    def vm_step(self, step: Step, vm_id: Any, outline: Outline, **options: Any) -> BaseOperator:
        """Return the task of one step of one VM; `vm_id` is decided when the group is expanded."""
        ...


def build_dag(outline: Outline, operators: Operators) -> DAG:
    """Build the DAG of an outline. It is created paused, has no schedule and never catches up.

    The later parts of a long wave are not created paused: whoever starts the first one starts the wave, and a part
    that waits to be unpaused would leave it standing in the middle of the night.
    """
    with DAG(
        dag_id=outline.dag_id,
        description=outline.description or None,
        schedule=None,
        catchup=False,
        is_paused_upon_creation=outline.part <= 1,
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
    report = _teardown(operators.run_step("report", outline))
    verdict = _teardown(operators.run_step("verdict", outline))
    verdict.on_failure_fail_dagrun = True
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
    if not outline.itineraries:
        validate >> report
    report >> verdict
    if outline.next_part:
        report >> operators.next_part(outline, trigger_rule=TriggerRule.ALL_DONE)


def _add_group(
    itinerary: Itinerary, vm_ids: Any, outline: Outline, operators: Operators
) -> tuple[BaseOperator, BaseOperator]:
    """Add one itinerary as a task group mapped over VM ids; return its first and its last task."""
    tasks: list[BaseOperator] = []

    def walk(vm_id: Any) -> None:
        for step in itinerary.steps:
            task = operators.vm_step(step, vm_id, outline)
            if step.teardown:
                _teardown(task)
            if tasks:
                tasks[-1] >> task
            tasks.append(task)

    task_group(group_id=itinerary.name)(walk).expand(vm_id=vm_ids)
    return tasks[0], tasks[-1]


def _teardown(task: BaseOperator) -> BaseOperator:
    task.is_teardown = True
    task.trigger_rule = TriggerRule.ALL_DONE_SETUP_SUCCESS
    return task


def _describe(outline: Outline) -> str:
    lines = [f"Plan **{outline.plan}** from `{outline.file}`"]
    if outline.wave:
        part = f", part {outline.part}" if outline.part else ""
        lines.append(f"wave **{outline.wave}**{part}: {outline.vm_count} VMs, {outline.max_vms_in_flight} in flight")
    if outline.problems:
        lines.append("**No new run may start:**")
        lines.extend(f"- `{problem}`" for problem in outline.problems)
    return "\n\n".join(lines)
