"""A pod's life as the worker sees it: found, created with its Secret, read, ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from kubernetes.client import ApiException

from mtv.kubevirt.labels import selector
from mtv.kubevirt.pods import PodRequest
from mtv.model.errors import PermanentError, TemporaryError
from mtv.model.transfer import Failure

END_TIMEOUT_S = 90
"""How long a pod may take to end: its grace period of 30 s, the container's end, and the node's report."""
_REQUEST_TIMEOUT_S = 30


class PodKey(msgspec.Struct, frozen=True, kw_only=True):
    """One very pod: a new pod of the same name has another uid."""

    namespace: str
    name: str
    uid: str


class Pods:
    """The pods of one namespace. Every call is bounded in time and raises our own errors."""

    def __init__(self, client: Any, namespace: str, log: Callable[[str], None]) -> None:
        self.client = client
        self.namespace = namespace
        self.log = log

    def find(self, labels: Mapping[str, str]) -> PodKey | None:
        """Return the pod with these labels that lives or waits to be read; wait for those that are ending.

        Raises `TemporaryError` when an ending pod does not go away, for instance because its node is unreachable.
        """
        with _api_errors("list pods"):
            found = self.client.list_namespaced_pod(
                self.namespace, label_selector=selector(dict(labels)), _request_timeout=_REQUEST_TIMEOUT_S
            ).items
        ending = [pod for pod in found if pod.metadata.deletion_timestamp]
        standing = [pod for pod in found if not pod.metadata.deletion_timestamp]
        standing.sort(key=lambda pod: pod.metadata.creation_timestamp)
        for pod in ending:
            self._wait_gone(_key(pod))
        if not standing:
            return None
        for older in standing[:-1]:
            self.log(f"pod {older.metadata.name} is superseded by {standing[-1].metadata.name} and ended")
            self.end(_key(older))
        newest = standing[-1]
        self.log(f"found pod {newest.metadata.name} ({newest.status.phase}) of an earlier try")
        return _key(newest)

    def create(self, request: PodRequest, *, owned: Callable[[PodKey], None]) -> PodKey:
        """Create the pod, then its Secret with the pod as owner. `owned` is told the pod before the Secret exists.

        The pod waits for its Secret. If the Secret cannot be made the pod is ended again.
        """
        with _api_errors("create pod"):
            pod = self.client.create_namespaced_pod(
                request.namespace, request.pod, _request_timeout=_REQUEST_TIMEOUT_S
            )
        key = _key(pod)
        owned(key)
        self.log(f"created pod {key.name} in {key.namespace}")
        if not request.secret_files:
            return key
        try:
            with _api_errors("create Secret"):
                self.client.create_namespaced_secret(
                    request.namespace, _secret(request, key), _request_timeout=_REQUEST_TIMEOUT_S
                )
        except BaseException:
            self.end(key)
            raise
        return key

    def read(self, key: PodKey) -> Any | None:
        """Return the pod, or None when it is gone or its name belongs to another pod."""
        try:
            with _api_errors("read pod"):
                pod = self.client.read_namespaced_pod(key.name, key.namespace, _request_timeout=_REQUEST_TIMEOUT_S)
        except _Gone:
            return None
        return pod if pod.metadata.uid == key.uid else None

    def has_ended(self, key: PodKey) -> bool:
        """Has the pod run to its end, well or badly?"""
        pod = self.read(key)
        return pod is None or pod.status.phase in ("Succeeded", "Failed")

    def end(self, key: PodKey) -> None:
        """Delete the pod and wait until it is gone. Its Secret goes with it. Nothing to do when it is gone already."""
        body = {"preconditions": {"uid": key.uid}}
        try:
            with _api_errors("delete pod"):
                self.client.delete_namespaced_pod(
                    key.name, key.namespace, body=body, _request_timeout=_REQUEST_TIMEOUT_S
                )
        except _Gone:
            return
        self._wait_gone(key)

    def _wait_gone(self, key: PodKey) -> None:
        deadline = time.monotonic() + END_TIMEOUT_S
        while (pod := self.read(key)) is not None:
            if time.monotonic() > deadline:
                raise TemporaryError(
                    f"pod {key.name} does not end on node {pod.spec.node_name}",
                    cure="if the node is lost, prove that it is off, then delete the pod with --force",
                    code="PodDoesNotEnd",
                )
            time.sleep(0.5)


def result_of(pod: Any | None, key: PodKey) -> str:
    """Return the mover's result from a pod that has ended; a pod that left none counts as a failure to try again."""
    if pod is None:
        return _no_result("PodVanished", f"pod {key.name} has vanished before its result was read")
    for status in pod.status.container_statuses or ():
        ended = status.state.terminated
        if ended is not None and (ended.message or "").lstrip().startswith("{"):
            return str(ended.message)
    return _no_result("PodLeftNoResult", f"pod {key.name} left no result: {_why(pod)}")


def _no_result(code: str, message: str) -> str:
    failure = Failure(code=code, message=message, cure="see the task's log and the node's events", retryable=True)
    return msgspec.json.encode({"ok": False, "failure": failure}).decode()


def _why(pod: Any) -> str:
    words = [word for word in (pod.status.phase, pod.status.reason, pod.status.message) if word]
    for status in pod.status.container_statuses or ():
        if (ended := status.state.terminated) is not None:
            words.append(f"{ended.reason or 'ended'} (exit code {ended.exit_code})")
        elif (waiting := status.state.waiting) is not None:
            words.append(f"waiting: {waiting.reason} {waiting.message or ''}".rstrip())
    return ", ".join(words)


def _key(pod: Any) -> PodKey:
    return PodKey(namespace=pod.metadata.namespace, name=pod.metadata.name, uid=pod.metadata.uid)


def _secret(request: PodRequest, owner: PodKey) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "Opaque",
        "immutable": True,
        "metadata": {
            "name": request.secret_name,
            "namespace": request.namespace,
            "labels": request.labels,
            "ownerReferences": [
                {"apiVersion": "v1", "kind": "Pod", "name": owner.name, "uid": owner.uid, "blockOwnerDeletion": True}
            ],
        },
        "stringData": dict(request.secret_files),
    }


class _Gone(Exception):
    """The object is not there, or it is another one of the same name."""


class _api_errors:
    """Turn the client's exceptions into ours. Bodies of requests, which hold secrets, are never part of a message."""

    def __init__(self, what: str) -> None:
        self.what = what

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, ApiException):
            _raise_ours(self.what, error)
        elif isinstance(error, OSError) or type(error).__module__.startswith("urllib3"):
            raise TemporaryError(f"cannot {self.what}: the cluster does not answer", code="ClusterSilent") from error


def _raise_ours(what: str, error: ApiException) -> None:
    if error.status == 404 or (error.status == 409 and what == "delete pod"):
        raise _Gone from None
    message = f"cannot {what}: the cluster answers {error.status} {error.reason}"
    detail = _message_of(error)
    if error.status in (401, 403, 422) or (error.status == 400):
        raise PermanentError(f"{message}: {detail}", cure=_CURES.get(error.status, ""), code="ClusterRefused") from None
    raise TemporaryError(f"{message}: {detail}", code="ClusterBusy") from None


_CURES = {
    401: "renew the credentials of the target's connection",
    403: "give the service account the rights of deploy/rbac.yaml",
}


def _message_of(error: ApiException) -> str:
    try:
        return str(msgspec.json.decode(error.body)["message"])[:500]
    except (msgspec.DecodeError, KeyError, TypeError):
        return ""
