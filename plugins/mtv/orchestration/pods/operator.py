"""The task of a step that runs in a pod.

    worker     find the pod of this VM, step and run ──▶ none? ask the step, create pod, then Secret ──▶ defer
               (streams of its ESXi host all taken? ──▶ wait in the triggerer, then look again)
    triggerer  tail the log, keep progress, wait for the pod's end
    worker     read the termination message ──▶ the step reads it ──▶ delete the pod
               (not ended, only out of the triggerer's sight? ──▶ defer again)

A pod that lives is always watched to its end, whoever created it: a killed worker or triggerer finds it again, and a
triggerer that does not reach the cluster ends no pod. The only bound is the pod's age (`lifecycle.may_go_on`). A pod
that has ended is read first and deleted when the step has said what it makes of its result, so that is never lost: a
store that is away just then leaves the pod to the next try. Clearing the task or marking it ends
the pod, and a new one is created only when the old one is gone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, ClassVar, NoReturn

from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowTaskTerminated
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import SetRenderedMapIndex

from mtv.kubevirt.cluster import Cluster
from mtv.model.errors import MtvError, PermanentError
from mtv.orchestration.errors import as_airflow_errors
from mtv.orchestration.nfc_streams_trigger import NfcStreamsTrigger
from mtv.orchestration.operators import label_of, task_ref
from mtv.orchestration.pods.lifecycle import PodKey, Pods, may_go_on, result_of, why
from mtv.orchestration.pods.trigger import MoverPodTrigger
from mtv.orchestration.runner import StepRunner, TaskRef, log_lines
from mtv.store import NfcStreamsTaken, StoreAway


class MoverPodOperator(KubernetesPodOperator):
    """A KubernetesPodOperator whose pod comes from a step and whose result goes back to it.

    Nothing about the pod is known when the DAG is parsed, and nothing of it is rendered into Airflow's database.
    """

    template_fields: Sequence[str] = ("vm_id",)
    template_fields_renderers: ClassVar[dict[str, str]] = {}

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
            self.kubernetes_conn_id = target.connection_id
            with self._pods(target.connection_id) as pods:
                found = pods.find(target.namespace, target.labels)
                if found is not None and pods.has_ended(found):
                    self._watch(found)
                    if self._is_read(pods, found, task):
                        return
                    found = None
                if found is None:
                    try:
                        request = self.runner.pod_request(self.step, self.vm_id, task, log)
                    except NfcStreamsTaken as taken:
                        log(f"waiting: {taken}")
                        _show_label(target.vm_name)
                        self._wait_for_streams(taken)
                    if request is None:
                        return
                    found = pods.create(request, owned=self._watch)
            self._watch(found)
        _show_label(target.vm_name)
        trigger = MoverPodTrigger(
            connection_id=target.connection_id,
            namespace=found.namespace,
            pod=found.name,
            uid=found.uid,
            run=target.run_id,
            vm_id=self.vm_id,
            vm_name=target.vm_name,
            step=self.step,
            poll_s=self.poll_interval,
        )
        self.defer(trigger=trigger, method_name="execute_complete")

    def execute_after_wait(self, context: Context, event: dict[str, Any]) -> None:
        """Look again when the triggerer says that the host has streams left: another VM may have been faster."""
        del event
        self.execute(context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> None:
        """Read what the pod left, or have it watched on when it has not ended. Raises what the step makes of it."""
        key = PodKey(namespace=event["namespace"], name=event["pod"], uid=event["uid"])
        self.kubernetes_conn_id = event["connection_id"]
        self._watch(key)
        label_of(context)(event["vm_name"])
        with as_airflow_errors(), self._pods(event["connection_id"]) as pods:
            pod = pods.read(key)
            if pod is not None and may_go_on(pod, datetime.now(UTC)):
                self.log.warning("pod %s has not ended (%s): it is watched on", key.name, why(pod))
                self.defer(trigger=MoverPodTrigger(**event), method_name="execute_complete")
            self._read(pods, key, task_ref(context))

    def on_kill(self) -> NoReturn:
        """End the pod, wait for its end, then end the task."""
        if self._watched is not None and self.kubernetes_conn_id:
            with self._pods(self.kubernetes_conn_id) as pods:
                pods.end(self._watched)
        raise AirflowTaskTerminated("the task was marked or cleared; its pod has ended")

    def _wait_for_streams(self, taken: NfcStreamsTaken) -> NoReturn:
        trigger = NfcStreamsTrigger(host=taken.host, capacity=taken.capacity, poll_s=self.poll_interval)
        self.defer(trigger=trigger, method_name="execute_after_wait")
        raise AssertionError("defer always raises")

    def _read(self, pods: Pods, key: PodKey, task: TaskRef) -> None:
        """Give the pod's result to the step; the pod goes once the step has said what it makes of it, good or bad.

        A store that does not answer, or cannot keep what it is told, is no word of the step: the next try reads again.
        """
        message = result_of(pods.read(key), key)
        try:
            self.runner.pod_finish(self.step, self.vm_id, message, task, log_lines(self.log))
        except StoreAway:
            self.log.warning("pod %s stays until the store has its result", key.name)
            raise
        except MtvError:
            pods.end(key)
            raise
        pods.end(key)

    def _is_read(self, pods: Pods, key: PodKey, task: TaskRef) -> bool:
        """Read a pod that ended while nobody watched; False when an earlier try has read it already."""
        try:
            self._read(pods, key, task)
        except PermanentError as error:
            if error.code != "wrong-phase":
                raise
            return False
        return True

    def _watch(self, key: PodKey) -> None:
        self._watched = key

    @contextmanager
    def _pods(self, connection_id: str) -> Iterator[Pods]:
        with Cluster(self.runner.connections.get(connection_id)) as cluster:
            yield Pods(cluster, log_lines(self.log))


def _show_label(vm_name: str) -> None:
    """Label the mapped task now: Airflow renders the template again only when a task ends, which may be hours away."""
    task_runner.SUPERVISOR_COMMS.send(SetRenderedMapIndex(rendered_map_index=vm_name))
