"""A namespace of its own for each test, and short words for what the tests do with pods and claims."""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest
from kubernetes import client, config
from kubernetes.client.rest import ApiException

T = TypeVar("T")


def until(look: Callable[[], T], *, what: str, timeout_s: float = 300) -> T:
    """Wait for something true; the time is only the limit, no test depends on it.

    It is far above the 2 to 5 s that a pod takes to come or go, because others may share the machine.
    """
    end = time.monotonic() + timeout_s
    while not (found := look()):
        assert time.monotonic() < end, f"waited {timeout_s} s for {what}"
        time.sleep(0.1)
    return found


def refused(call: Callable[[], Any]) -> tuple[int, str]:
    """Status and message of the API server's answer; (200, "") if it did not refuse."""
    try:
        call()
    except ApiException as error:
        # A group that is not served yet is answered in plain text.
        is_status = (error.body or "").startswith("{")
        return error.status, json.loads(error.body)["message"] if is_status else str(error.body)
    return 200, ""


@dataclass
class Cluster:
    """One namespace of the cluster under test."""

    api: client.ApiClient
    namespace: str
    image: str
    filesystem_class: str
    block_class: str | None
    is_lab: bool
    core: client.CoreV1Api = field(init=False)

    def __post_init__(self) -> None:
        self.core = client.CoreV1Api(self.api)

    def start(self, name: str, script: str, *, container: dict[str, Any] | None = None, **spec: Any) -> None:
        """A pod that runs a shell script once."""
        main = {"name": "main", "image": self.image, "command": ["sh", "-c", script], **(container or {})}
        body = {
            "metadata": {"name": name},
            "spec": {"restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "containers": [main], **spec},
        }
        self.core.create_namespaced_pod(self.namespace, body)

    def pod(self, name: str) -> Any:
        return self.core.read_namespaced_pod(name, self.namespace)

    def reach(self, name: str, *phases: str) -> Any:
        """The pod, once it is in one of the phases."""

        def look() -> Any:
            pod = self.pod(name)
            return pod if pod.status.phase in phases else None

        return until(look, what=f"pod {name} to be {' or '.join(phases)}")

    def run(self, name: str, script: str, **more: Any) -> str:
        """Run the script in a pod, give its log; the pod has to succeed."""
        self.start(name, script, **more)
        pod = self.reach(name, "Succeeded", "Failed")
        log = self.log(name)
        assert pod.status.phase == "Succeeded", (pod.status.container_statuses, log)
        return log

    def log(self, name: str, container: str = "main") -> str:
        # Without _preload_content=False the client gives the text "b'…'".
        answer = self.core.read_namespaced_pod_log(name, self.namespace, container=container, _preload_content=False)
        return answer.data.decode()

    def log_so_far(self, name: str) -> str:
        """The log of the main container, "" while there is none; what was there a moment ago may be gone again."""
        try:
            return self.log(name)
        except ApiException as error:
            if error.status != 400:
                raise
            return ""

    def terminated(self, name: str) -> Any:
        """How the main container ended."""
        return self.reach(name, "Succeeded", "Failed").status.container_statuses[0].state.terminated

    def waiting_reason(self, name: str) -> str:
        """Why the main container does not run; empty while there is no reason yet."""
        statuses = self.pod(name).status.container_statuses
        waiting = statuses[0].state.waiting if statuses else None
        return waiting.reason if waiting and waiting.reason != "ContainerCreating" else ""

    def claim(self, name: str, *, size: str = "64Mi", **spec: Any) -> None:
        body = {
            "metadata": {"name": name},
            "spec": {
                "storageClassName": self.filesystem_class,
                "accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": size}},
                **spec,
            },
        }
        self.core.create_namespaced_persistent_volume_claim(self.namespace, body)

    def bound(self, name: str) -> Any:
        def look() -> Any:
            claim = self.core.read_namespaced_persistent_volume_claim(name, self.namespace)
            return claim if claim.status.phase == "Bound" else None

        return until(look, what=f"claim {name} to be bound")


def mounted(claim: str, path: str = "/data") -> dict[str, Any]:
    """Pod fields that mount a claim in the main container."""
    return {
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}],
        "container": {"volumeMounts": [{"name": "data", "mountPath": path}]},
    }


@pytest.fixture(scope="session")
def contract(request: pytest.FixtureRequest) -> dict[str, Any]:
    """The cluster under test: any that MTV_CONTRACT_KUBECONFIG names, else the lab's."""
    if kubeconfig := os.environ.get("MTV_CONTRACT_KUBECONFIG"):
        return {
            "kubeconfig": kubeconfig,
            "image": os.environ.get("MTV_CONTRACT_IMAGE", "docker.io/library/busybox:1.37"),
            "filesystem": os.environ.get("MTV_CONTRACT_CLASS", "standard"),
            "block": os.environ.get("MTV_CONTRACT_BLOCK_CLASS"),
            "is_lab": False,
        }
    endpoints = request.getfixturevalue("lab").endpoints("cluster")
    return {
        "kubeconfig": endpoints["kubeconfig"],
        "image": endpoints["images"]["busybox"],
        "filesystem": endpoints["classes"]["filesystem"],
        "block": endpoints["classes"]["block"],
        "is_lab": True,
    }


@contextmanager
def closing_client(api: client.ApiClient) -> Iterator[client.ApiClient]:
    """The client leaves its connections open otherwise."""
    try:
        yield api
    finally:
        api.rest_client.pool_manager.clear()


@pytest.fixture
def cluster(contract: dict[str, Any]) -> Iterator[Cluster]:
    with closing_client(config.new_client_from_config(contract["kubeconfig"])) as api:
        core = client.CoreV1Api(api)
        name = f"contract-{uuid.uuid4().hex[:10]}"
        core.create_namespace({"metadata": {"name": name}})
        try:
            until(
                lambda: refused(lambda: core.read_namespaced_service_account("default", name))[0] == 200,
                what="the default service account",
            )
            yield Cluster(
                api, name, contract["image"], contract["filesystem"], contract["block"], is_lab=contract["is_lab"]
            )
        finally:
            core.delete_namespace(name)


@pytest.fixture
def lab_problems(lab: Any) -> list[str]:
    """What the lab's cluster says about itself."""
    from lab.registry import PARTS

    lab.endpoints("cluster")
    return PARTS["cluster"].problems(lab.state)
