"""The task of a step that runs in a pod.

    worker     find the pod of this VM, step and run ──▶ none? ask the step, create pod, then Secret ──▶ defer
    triggerer  tail the log, keep progress, wait for the pod's end
    worker     read the termination message ──▶ the step reads it ──▶ delete the pod

A pod that lives is always watched to its end, whoever created it: a killed worker or triggerer finds it again. A pod
that has ended is read first and deleted afterwards, so its result is never lost. Clearing the task or marking it ends
the pod, and a new one is created only when the old one is gone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowTaskTerminated

from mtv.orchestration.errors import as_airflow_errors
from mtv.orchestration.operators import label_of, task_ref
from mtv.orchestration.pods.lifecycle import PodKey, Pods, result_of
from mtv.orchestration.pods.trigger import MoverPodTrigger
from mtv.orchestration.runner import StepRunner, log_lines


class MoverPodOperator(KubernetesPodOperator):
    """A KubernetesPodOperator whose pod comes from a step and whose result goes back to it.

    Nothing about the pod is known when the DAG is parsed, and nothing of it is rendered into Airflow's database.
    """

    template_fields: Sequence[str] = ("vm_id",)
    template_fields_renderers: dict[str, str] = {}

    def __init__(self, *, step: str, vm_id: Any, runner: StepRunner, poll_s: float, **kwargs: Any) -> None:
        super().__init__(
            deferrable=True,
            kubernetes_conn_id=None,
            base_container_name="mover",
            do_xcom_push=kwargs.pop("do_xcom_push", False),
            log_pod_spec_on_failure=False,
            poll_interval=poll_s,
            **kwargs,
        )
        self.step = step
        self.vm_id = vm_id
        self.runner = runner
        self._watched: PodKey | None = None

    def execute(self, context: Context) -> None:
        """Find or create the pod and hand it to the triggerer; a pod that has ended is read at once."""
        task = task_ref(context)
        log = log_lines(self.log)
        with as_airflow_errors():
            target = self.runner.pod_target(self.step, self.vm_id, task, log)
            if target is None:
                return
            label_of(context)(target.vm_name)
            pods = Pods(self._client_of(target.connection_id), target.namespace, log)
            found = pods.find(target.labels)
            if found is None:
                request = self.runner.pod_request(self.step, self.vm_id, task, log)
                if request is None:
                    return
                found = pods.create(request, owned=self._watch)
            self._watch(found)
            if pods.has_ended(found):
                self._finish(pods, found, context)
                return
        self.defer(
            trigger=MoverPodTrigger(
                connection_id=target.connection_id,
                namespace=found.namespace,
                pod=found.name,
                uid=found.uid,
                run=target.run_id,
                vm_id=self.vm_id,
                step=self.step,
                poll_s=self.poll_interval,
            ),
            method_name="execute_complete",
        )

    def execute_complete(self, context: Context, event: dict[str, Any]) -> None:
        """Read what the pod left. Raises what the step makes of it."""
        key = PodKey(namespace=event["namespace"], name=event["pod"], uid=event["uid"])
        self._watch(key)
        with as_airflow_errors():
            pods = Pods(self._client_of(event["connection_id"]), key.namespace, log_lines(self.log))
            label_of(context)(event.get("vm_name") or self.vm_id)
            self._finish(pods, key, context)

    def on_kill(self) -> NoReturn:
        """End the pod, wait for its end, then end the task."""
        if self._watched is not None:
            Pods(self.client, self._watched.namespace, log_lines(self.log)).end(self._watched)
        raise AirflowTaskTerminated("the task was marked or cleared; its pod has ended")

    def _finish(self, pods: Pods, key: PodKey, context: Context) -> None:
        task = task_ref(context)
        log = log_lines(self.log)
        pod = pods.read(key)
        try:
            self.runner.pod_finish(self.step, self.vm_id, result_of(pod, key), task, log)
        finally:
            pods.end(key)

    def _watch(self, key: PodKey) -> None:
        self._watched = key

    def _client_of(self, connection_id: str) -> Any:
        self.kubernetes_conn_id = connection_id
        return self.client
