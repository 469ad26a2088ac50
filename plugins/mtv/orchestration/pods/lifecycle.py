"""A pod's life as the worker sees it: found, created with its Secret, read, ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import msgspec

from mtv.kubevirt.cluster import Cluster
from mtv.kubevirt.pods import PodRequest, left_message, secret_of
from mtv.kubevirt.resources import PODS, SECRETS
from mtv.model.errors import TemporaryError
from mtv.model.transfer import Failure
from mtv.orchestration.patience import END_TIMEOUT_S, ENDED, is_worth_watching


class PodKey(msgspec.Struct, frozen=True, kw_only=True):
    """One very pod: a new pod of the same name has another uid."""

    namespace: str
    name: str
    uid: str


class Pods:
    """The mover pods of one cluster. Every call is bounded in time and raises our own errors."""

    def __init__(self, cluster: Cluster, log: Callable[[str], None]) -> None:
        self.cluster = cluster
        self.log = log

    def find(self, namespace: str, labels: Mapping[str, str]) -> PodKey | None:
        """Return the pod with these labels that lives or waits to be read; wait for those that are ending.

        Raises `TemporaryError` when an ending pod does not go away, for instance because its node is unreachable.
        """
        found = self.cluster.find(PODS, namespace, labels)
        for pod in found:
            if "deletionTimestamp" in pod["metadata"]:
                self._wait_gone(_key(pod))
        standing = [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]
        standing.sort(key=lambda pod: pod["metadata"]["creationTimestamp"])
        if not standing:
            return None
        for older in standing[:-1]:
            self.log(f"pod {_key(older).name} is superseded by {_key(standing[-1]).name} and ended")
            self.end(_key(older))
        newest = _key(standing[-1])
        if self._lacks_its_secret(standing[-1]):
            self.log(f"pod {newest.name} was left without its Secret by a worker that died; it is ended")
            self.end(newest)
            return None
        self.log(f"found pod {newest.name} of an earlier try; it goes on")
        return newest

    def create(self, request: PodRequest, *, owned: Callable[[PodKey], None]) -> PodKey:
        """Create the pod, then its Secret with the pod as owner. `owned` is told the pod before the Secret exists.

        The pod waits for its Secret. If the Secret cannot be made the pod is ended again.
        """
        key = _key(self.cluster.create(PODS, request.pod))
        owned(key)
        self.log(f"created pod {key.name} in {key.namespace}")
        if request.secret_files:
            try:
                self.cluster.create(SECRETS, secret_of(request, key.uid))
            except BaseException:
                self.end(key)
                raise
        return key

    def read(self, key: PodKey) -> dict[str, Any] | None:
        """Return the pod, or None when it is gone or its name belongs to another pod."""
        pod = self.cluster.get(PODS, key.name, key.namespace)
        return pod if pod is not None and pod["metadata"]["uid"] == key.uid else None

    def has_ended(self, key: PodKey) -> bool:
        """Has the pod run to its end, well or badly, or vanished?"""
        pod = self.read(key)
        return pod is None or pod.get("status", {}).get("phase") in ENDED

    def end(self, key: PodKey) -> None:
        """Delete the pod and wait until it is gone. Its Secret goes with it. Nothing to do when it is gone already."""
        if self.read(key) is not None:
            self.cluster.delete(PODS, key.name, key.namespace)
            self._wait_gone(key)

    def _lacks_its_secret(self, pod: Mapping[str, Any]) -> bool:
        """Does the pod wait for a Secret that nobody will make any more?"""
        if pod.get("status", {}).get("phase") != "Pending":
            return False
        names = [volume["secret"]["secretName"] for volume in pod["spec"].get("volumes", ()) if "secret" in volume]
        return any(not self.cluster.exists(SECRETS, name, pod["metadata"]["namespace"]) for name in names)

    def _wait_gone(self, key: PodKey) -> None:
        try:
            self.cluster.wait(
                lambda: self.read(key) is None, timeout_s=END_TIMEOUT_S, what=f"the end of pod {key.name}"
            )
        except TemporaryError as error:
            node = ((self.read(key) or {}).get("spec") or {}).get("nodeName", "")
            raise TemporaryError(
                f"pod {key.name} does not end on node {node or 'unknown'}: {error.message}",
                cure="if the node is lost, prove that it is off, then delete the pod with --force",
                code="PodDoesNotEnd",
            ) from error


def may_go_on(pod: Mapping[str, Any], now: datetime) -> bool:
    """Is the pod worth watching on? `now` has a time zone."""
    metadata = pod["metadata"]
    deleted = metadata.get("deletionTimestamp")
    return is_worth_watching(
        phase=pod.get("status", {}).get("phase", "Pending"),
        created=datetime.fromisoformat(metadata["creationTimestamp"]),
        deleted=datetime.fromisoformat(deleted) if deleted else None,
        now=now,
    )


def result_of(pod: Mapping[str, Any] | None, key: PodKey) -> str:
    """Return the mover's result from a pod that has ended; a pod that left none counts as a failure to try again."""
    if pod is None:
        return _no_result("PodVanished", f"pod {key.name} has vanished before its result was read")
    return left_message(pod) or _no_result("PodLeftNoResult", f"pod {key.name} left no result: {why(pod)}")


def why(pod: Mapping[str, Any]) -> str:
    """Say in words what state a pod is in: phase, reasons, exit codes, what a container waits for."""
    status = pod.get("status", {})
    words = [str(status[name]) for name in ("phase", "reason", "message") if status.get(name)]
    for condition in status.get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            words.append(f"not scheduled: {condition.get('message', '')}")
    for container in status.get("containerStatuses") or ():
        state = container.get("state") or {}
        if ended := state.get("terminated"):
            words.append(f"{ended.get('reason', 'ended')} (exit code {ended.get('exitCode')})")
        elif waiting := state.get("waiting"):
            words.append(f"waiting: {waiting.get('reason', '')} {waiting.get('message', '')}".rstrip())
    return ", ".join(words)


def _no_result(code: str, message: str) -> str:
    failure = Failure(code=code, message=message, cure="see the task's log and the node's events", retryable=True)
    return msgspec.json.encode({"ok": False, "failure": failure}).decode()


def _key(pod: Mapping[str, Any]) -> PodKey:
    metadata = pod["metadata"]
    return PodKey(namespace=metadata["namespace"], name=metadata["name"], uid=metadata["uid"])
