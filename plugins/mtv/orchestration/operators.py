"""The tasks of a wave that run in the worker, and the factory that makes all of a wave's tasks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, NoReturn

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import Context, TaskInstanceState
from airflow.sdk.bases.operator import BaseOperator
from airflow.sdk.exceptions import (
    AirflowException,
    AirflowRuntimeError,
    AirflowSkipException,
    AirflowTaskTerminated,
)

from mtv.itinerary.itineraries import BY_NAME, Itinerary, Step, Where
from mtv.model.settings import Settings
from mtv.orchestration.admission import Turn
from mtv.orchestration.errors import as_airflow_errors
from mtv.orchestration.outline import Outline
from mtv.orchestration.runner import StepRunner, TaskRef, log_lines

_ENDED = frozenset(
    {
        TaskInstanceState.SUCCESS,
        TaskInstanceState.FAILED,
        TaskInstanceState.SKIPPED,
        TaskInstanceState.UPSTREAM_FAILED,
        TaskInstanceState.REMOVED,
    }
)
VM_LABEL = "{{ vm_name if vm_name is defined else task.vm_id }}"
"""Label of a mapped task. The name is only known once the task runs, and an undefined one would fail the task."""


def task_ref(context: Context) -> TaskRef:
    """Return the key of the run that a task belongs to."""
    return TaskRef(dag_id=context["ti"].dag_id, run_id=context["run_id"])


def label_of(context: Context) -> Callable[[str], None]:
    """Return a function that gives the mapped task its label."""

    def name(vm_name: str) -> None:
        context["vm_name"] = vm_name  # type: ignore[typeddict-unknown-key]

    return name


class _StepOperator(BaseOperator):
    """Common to tasks whose step runs in the worker."""

    def __init__(self, *, runner: StepRunner, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.runner = runner

    def on_kill(self) -> NoReturn:
        """End the step where it stands: without this the process would go on until it is killed hard."""
        raise AirflowTaskTerminated("the task was marked or cleared while its step was running")


class RunStepOperator(_StepOperator):
    """A step of the whole run. `freeze` returns the VM ids that the groups are expanded over."""

    def __init__(self, *, step: str, outline: Outline, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.step = step
        self.outline = outline

    def execute(self, context: Context) -> list[str] | None:
        """Run the step."""
        log = log_lines(self.log)
        with as_airflow_errors():
            if self.step == "freeze":
                return self.runner.freeze(self.outline, task_ref(context), log)
            self.runner.run_step(self.step, task_ref(context), log)
        return None


class PickOperator(_StepOperator):
    """Picks the frozen VMs of one itinerary, in a wave that has several."""

    def __init__(self, *, itinerary: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.itinerary = itinerary

    def execute(self, context: Context) -> list[str]:
        """Return VM ids."""
        with as_airflow_errors():
            return self.runner.pick(self.itinerary, task_ref(context), log_lines(self.log))


class VmStepOperator(_StepOperator):
    """A step of one VM that runs in the worker. With `limit` it waits for the VM's turn first."""

    template_fields: Sequence[str] = ("vm_id",)

    def __init__(self, *, step: str, vm_id: Any, limit: int = 0, poll_s: float = 10, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.step = step
        self.vm_id = vm_id
        self.limit = limit
        self.poll_s = poll_s

    def execute(self, context: Context) -> None:
        """Run the step, or wait in the triggerer until it is the VM's turn."""
        task = task_ref(context)
        turn = Turn(self.limit, lambda: self._goes_on(context)) if self.limit else None
        with as_airflow_errors():
            done = self.runner.vm_step(
                self.step, self.vm_id, task, log_lines(self.log), named=label_of(context), turn=turn
            )
            if not done:
                self._wait_for_turn(task)

    def execute_in_turn(self, context: Context, event: dict[str, Any]) -> None:
        """Go on when the triggerer says that it is the VM's turn, or that it waited in vain."""
        del event
        self.execute(context)

    def _goes_on(self, context: Context) -> bool:
        """Ask Airflow whether the VM's other tasks are still to run: one that was not cleared is over."""
        ti, group = context["ti"], self.task_id.removesuffix(f".{self.step}")
        others = [f"{group}.{step.name}" for step in BY_NAME[group].steps if step.name != self.step]
        states = ti.get_task_states(ti.dag_id, map_index=ti.map_index, task_ids=others, run_ids=[ti.run_id])
        return not any(states[ti.run_id][f"{task_id}_{ti.map_index}"] in _ENDED for task_id in others)

    def _wait_for_turn(self, task: TaskRef) -> NoReturn:
        from mtv.orchestration.turn_trigger import TurnTrigger

        trigger = TurnTrigger(
            dag_id=task.dag_id, run_id=task.run_id, vm_id=self.vm_id, limit=self.limit, poll_s=self.poll_s
        )
        self.defer(trigger=trigger, method_name="execute_in_turn")
        raise AssertionError("defer always raises")


class NextPartOperator(TriggerDagRunOperator):
    """Starts the following part of a long wave under the same run id, however often it is asked to."""

    def __init__(self, *, runner: StepRunner, next_part: str, **kwargs: Any) -> None:
        super().__init__(
            trigger_dag_id=next_part,
            trigger_run_id="{{ run_id }}",
            logical_date=None,
            skip_when_already_exists=True,
            **kwargs,
        )
        self.runner = runner

    def execute(self, context: Context) -> None:
        """Hand over, unless this part never began (what refused it would refuse the next one, too) or was the last.

        The run is finished in the store first: a plan has one active run. Fails while Airflow does not know the next
        part's DAG, or has it paused: a wave that stands still must not look as if it went on.
        """
        task = task_ref(context)
        with as_airflow_errors():
            dags = self.runner.dags_of(task)
            if not dags:
                raise AirflowSkipException("this part was refused: the following one is not started")
            self.runner.run_step("close", task, log_lines(self.log))
        if self.trigger_dag_id not in dags:
            raise AirflowSkipException("the wave as it began ends here: VMs added to its file since are not started")
        self._refuse_standstill(context)
        super().execute(context)

    def _refuse_standstill(self, context: Context) -> None:
        cure = "then clear this task: the wave goes on where it stands"
        try:
            is_paused = context["ti"].get_dag(self.trigger_dag_id).is_paused
        except AirflowRuntimeError as error:
            raise AirflowException(
                f"[NextPartUnknown] Airflow does not give {self.trigger_dag_id}, which comes next: {error} — look for"
                f" it among the DAGs and their import errors, {cure}"
            ) from error
        if is_paused:
            raise AirflowException(
                f"[NextPartPaused] {self.trigger_dag_id}, which comes next, is paused — unpause it, {cure}"
            )


class RefuseOperator(BaseOperator):
    """The one task of a plan that does not check: fails with everything that is wrong with it."""

    def __init__(self, *, problems: Sequence[str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.problems = tuple(problems)

    def execute(self, context: Context) -> NoReturn:
        """Fail with all messages."""
        from mtv.model.errors import PlanError

        del context
        with as_airflow_errors():
            for problem in self.problems:
                self.log.error("%s", problem)
            raise PlanError("the plan does not check:\n" + "\n".join(self.problems), code="PlanInvalid")
        raise AssertionError("the error always leaves")


class StepOperators:
    """Makes the tasks of a wave's DAG (see `wave_dag.Operators`)."""

    def __init__(self, settings: Settings, runner: StepRunner | None = None) -> None:
        self.settings = settings
        self.runner = runner or StepRunner(settings)

    def refuse(self, outline: Outline) -> BaseOperator:
        """Return the task that fails with the outline's problems."""
        return RefuseOperator(task_id="plan_does_not_check", problems=outline.problems, retries=0)

    def run_step(self, name: str, outline: Outline, **options: Any) -> BaseOperator:
        """Return the task of a step of the whole run."""
        return RunStepOperator(
            task_id=name, step=name, outline=outline, runner=self.runner, do_xcom_push=name == "freeze",
            **self._retry(2), **options,
        )  # fmt: skip

    def pick(self, itinerary: Itinerary, outline: Outline, **options: Any) -> BaseOperator:
        """Return the task that picks the frozen VMs of one itinerary."""
        del outline
        task_id = f"pick_{itinerary.name.replace('-', '_')}"
        return PickOperator(
            task_id=task_id, itinerary=itinerary.name, runner=self.runner, **self._retry(2), **options
        )  # fmt: skip

    def next_part(self, outline: Outline, **options: Any) -> BaseOperator:
        """Return the task that starts the following part of a long wave."""
        return NextPartOperator(
            task_id="next_part", next_part=outline.next_part, runner=self.runner, **self._retry(2), **options
        )  # fmt: skip

    def vm_step(self, step: Step, vm_id: Any, outline: Outline, **options: Any) -> BaseOperator:
        """Return the task of one step of one VM: a pod beside the volumes, or the worker."""
        common: dict[str, Any] = {
            "task_id": step.name,
            "step": step.name,
            "vm_id": vm_id,
            "runner": self.runner,
            "map_index_template": VM_LABEL,
            "do_xcom_push": False,
            **self._retry(3),
            **options,
        }
        if step.where is Where.POD:
            from mtv.orchestration.pods.operator import MoverPodOperator

            return MoverPodOperator(**common, poll_s=self.settings.pod_poll_s)
        if step.setup:
            common |= {"limit": outline.max_vms_in_flight, "max_active_tis_per_dagrun": outline.max_vms_in_flight}
        return VmStepOperator(**common, poll_s=self.settings.pod_poll_s)

    def _retry(self, retries: int) -> dict[str, Any]:
        return {"retries": retries, "retry_delay": timedelta(seconds=self.settings.retry_delay_s)}
