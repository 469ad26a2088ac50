"""Watches one pod to its end: passes on what it logs, keeps its progress, and wakes the task when it has ended."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import aiohttp
from airflow.sdk.exceptions import AirflowRuntimeError
from airflow.triggers.base import BaseTrigger, TriggerEvent
from kubernetes_asyncio.client import ApiException

from mtv.model.errors import MtvError
from mtv.orchestration.patience import LONGEST_LIFE_S, SILENCE_LIMIT_S, is_worth_watching
from mtv.orchestration.pods.clients import core_api, forget
from mtv.orchestration.pods.log import LogTail, Told, read_lines
from mtv.orchestration.trigger_store import read_store

if TYPE_CHECKING:
    from mtv.store import Store

_REQUEST_TIMEOUT_S = 20
_KILL_TIMEOUT_S = 25.0
"""Airflow gives a trigger 30 s to end what it manages."""
_TROUBLE = (ApiException, aiohttp.ClientError, TimeoutError, OSError, MtvError, AirflowRuntimeError, RuntimeError)
"""What is waited out. Airflow's own is that its API server does not give the connection; Python's is a session that
another trigger, whose credentials were refused, has closed just now."""
_FIELDS = ("connection_id", "namespace", "pod", "uid", "run", "vm_id", "vm_name", "step", "poll_s")


class MoverPodTrigger(BaseTrigger):
    """Watches a mover pod. Its row in Airflow's database holds ids only: no credentials, no kubeconfig, no manifest.

    Its event holds the same, so that the task can have a pod that has not ended watched on.
    """

    def __init__(
        self, *, connection_id: str, namespace: str, pod: str, uid: str, run: str, vm_id: str, vm_name: str, step: str,
        poll_s: float,
    ) -> None:  # fmt: skip
        super().__init__()  # type: ignore[no-untyped-call]
        self.connection_id = connection_id
        self.namespace = namespace
        self.pod = pod
        self.uid = uid
        self.run_ref = run
        self.vm_id = vm_id
        self.vm_name = vm_name
        self.step = step
        self.poll_s = poll_s
        self._tail = LogTail()
        self._begun = self._read_at = time.monotonic()

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what the trigger row holds."""
        values = {name: self.run_ref if name == "run" else getattr(self, name) for name in _FIELDS}
        return f"{__name__}.MoverPodTrigger", values

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Watch until the pod has ended, does not start, or has been silent for too long; the task then looks."""
        heard = time.monotonic()
        while time.monotonic() - self._begun < LONGEST_LIFE_S:
            try:
                if await self._look():
                    break
                heard = time.monotonic()
            except _TROUBLE as trouble:
                if isinstance(trouble, ApiException) and trouble.status == 401:
                    await forget(self.connection_id)
                self.log.warning("pod %s cannot be seen: %s", self.pod, _words(trouble))
                if time.monotonic() - heard > SILENCE_LIMIT_S:
                    break
            await asyncio.sleep(self.poll_s)
        yield TriggerEvent(self.serialize()[1])  # type: ignore[no-untyped-call]

    async def on_kill(self) -> None:
        """End the pod and wait for its end: the task was cleared or marked while it was deferred."""
        self.log.info("the task was marked or cleared: ending pod %s", self.pod)
        deadline = time.monotonic() + _KILL_TIMEOUT_S
        asked = False
        while time.monotonic() < deadline:
            try:
                if await self._read() is None:
                    self.log.info("pod %s has ended", self.pod)
                    return
                if not asked:
                    api = await core_api(self.connection_id)
                    body: Any = {"preconditions": {"uid": self.uid}}
                    await api.delete_namespaced_pod(
                        self.pod, self.namespace, body=body, _request_timeout=_REQUEST_TIMEOUT_S
                    )
                    asked = True
            except _TROUBLE as trouble:
                self.log.warning("pod %s cannot be ended yet: %s", self.pod, _words(trouble))
            await asyncio.sleep(0.5)
        self.log.warning("pod %s is still ending; `settle` waits for it", self.pod)

    async def _look(self) -> bool:
        """Read pod and log once. Return whether there is nothing left to watch."""
        pod = await self._read()
        if pod is None:
            self.log.warning("pod %s is gone", self.pod)
            return True
        phase = (pod.status and pod.status.phase) or "Pending"
        if phase != "Pending":
            await self._follow_log()
        return not is_worth_watching(
            phase=phase,
            created=pod.metadata.creation_timestamp,
            deleted=pod.metadata.deletion_timestamp,
            now=datetime.now(UTC),
        )

    async def _follow_log(self) -> None:
        """Pass on what is new in the log. One that cannot be read (a node that hangs) does not hide the pod's end."""
        try:
            text = await self._read_log()
        except _TROUBLE as trouble:
            self.log.warning("the log of pod %s cannot be read: %s", self.pod, _words(trouble))
        else:
            await self._pass_on(read_lines(self._tail.new(text)))

    async def _read(self) -> Any | None:
        api = await core_api(self.connection_id)
        try:
            pod = await api.read_namespaced_pod(self.pod, self.namespace, _request_timeout=_REQUEST_TIMEOUT_S)
        except ApiException as error:
            if error.status == 404:
                return None
            raise
        return pod if pod.metadata.uid == self.uid else None

    async def _read_log(self) -> str:
        api = await core_api(self.connection_id)
        # A little more than the time since the last look; lines that were seen before are dropped.
        since: dict[str, Any] = {}
        if not self._tail.is_empty:
            since["since_seconds"] = int(time.monotonic() - self._read_at) + 10
        begun = time.monotonic()
        answer: Any = await api.read_namespaced_pod_log(
            self.pod, self.namespace, container="mover", timestamps=True, tail_lines=2000, _preload_content=False,
            _request_timeout=_REQUEST_TIMEOUT_S, **since,
        )  # fmt: skip
        if answer.status != 200:  # the container has not started yet
            return ""
        text: str = (await answer.read()).decode("utf-8", errors="replace")
        self._read_at = begun
        return text

    async def _pass_on(self, told: Told) -> None:
        for line in told.lines:
            self.log.info("%s", line)
        if told.progress and self.run_ref:
            try:
                await read_store(partial(_keep, run=self.run_ref, vm_id=self.vm_id, step=self.step, told=told))
            except Exception as trouble:  # noqa: BLE001  whatever ails the store: the copy is worth more than its progress
                words = trouble.message if isinstance(trouble, MtvError) else type(trouble).__name__
                self.log.warning("progress is not kept: %s", words)


def _keep(store: Store, *, run: str, vm_id: str, step: str, told: Told) -> None:
    for progress in told.progress:
        store.put_progress(run, vm_id, step, progress)


def _words(trouble: BaseException) -> str:
    """Say what went wrong without the answer's body or headers."""
    if isinstance(trouble, ApiException):
        return f"the cluster answers {trouble.status} {trouble.reason}"
    return str(trouble) or type(trouble).__name__
