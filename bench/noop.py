"""Steps that do nothing but keep the books, for measuring what orchestration itself costs.

DAG builder, operators, store and admission are the product's; only what a step would do to a VM is left out.
Imported by the DAG file that `bench/wave.py` writes, so it runs inside Airflow's components.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
from airflow.sdk import DAG, get_parsing_context

from mtv.model.evidence import VmPhase
from mtv.model.plan import Plan
from mtv.model.settings import Settings
from mtv.orchestration.admission import Turn, ask_to_enter
from mtv.orchestration.operators import StepOperators
from mtv.orchestration.outline import Outline
from mtv.orchestration.runner import Log, PodTarget, StepRunner, TaskRef
from mtv.orchestration.wave_dag import build_dag
from mtv.plan.parts import part_plan
from mtv.store import Store


class NoopRunner(StepRunner):
    """Claims, advances and releases rows of the real store; touches no source and no cluster."""

    def freeze(self, outline: Outline, task: TaskRef, log: Log) -> list[str]:  # noqa: ARG002  the runner's shape
        """Start the run and pin its VMs, without the limits of SQLite: they are what is measured."""
        plan = Plan.model_validate_json((self.settings.state_folder / "plan.json").read_bytes())
        with self.store() as store:
            run = store.start_run(
                plan_hash=store.put_plan(plan), plan_name=plan.name, wave=outline.wave,
                dag_id=task.dag_id, dag_run_id=task.run_id,
            )  # fmt: skip
            vms = part_plan(plan, outline.wave, outline.part).wave(outline.wave).vms
            return store.freeze_vms(run.id, [vm.id for vm in vms])

    def run_step(self, step: str, task: TaskRef, log: Log) -> None:  # noqa: ARG002  the runner's shape
        """Journal the step; `verdict` finishes the run, as `close` does before the next part."""
        with self.store() as store:
            run = store.run_of(task.dag_id, task.run_id)
            assert run is not None
            store.end_step(store.begin_step(run.id, "", step), state="success")
            if step in ("close", "verdict"):
                store.finish_run(run.id, "success")

    def vm_step(self, step: str, vm_id: str, task: TaskRef, log: Log, *, named: Log, turn: Turn | None = None) -> bool:  # noqa: ARG002  the runner's shape
        """Journal the step and move the VM's row as the real steps do."""
        with self.store() as store:
            run = store.run_of(task.dag_id, task.run_id)
            assert run is not None
            named(vm_id)
            if turn and not ask_to_enter(store, run, vm_id, turn):
                return False
            self._journal_step(store, run.id, run.plan_name, step, vm_id)
        return True

    def pod_target(self, step: str, vm_id: str, task: TaskRef, log: Log) -> PodTarget | None:  # noqa: ARG002  the runner's shape
        """Journal the step: there is no pod to run."""
        with self.store() as store:
            run = store.run_of(task.dag_id, task.run_id)
            assert run is not None
            self._journal_step(store, run.id, run.plan_name, step, vm_id)
        return None

    def _journal_step(self, store: Store, run_id: str, plan: str, step: str, vm_id: str) -> None:
        attempt = store.begin_step(run_id, vm_id, step)
        if step == "prepare":
            store.claim_vm(plan, vm_id, run_id)
        if step == "settle":
            store.release_vm(plan, vm_id, run_id, VmPhase.MIGRATED)
        store.end_step(attempt, state="success")


def load_dags() -> list[DAG]:
    """Build the DAGs of `<state>/bench-outlines.json`, only the asked one when a task starts."""
    settings = Settings.from_environ()
    asked = get_parsing_context().dag_id
    found = msgspec.json.decode(
        Path(os.environ["MTV_STATE_FOLDER"], "bench-outlines.json").read_bytes(), type=list[Outline]
    )
    operators = StepOperators(settings, NoopRunner(settings))
    return [build_dag(outline, operators) for outline in found if asked in (None, outline.dag_id)]
