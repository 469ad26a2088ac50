"""Running a step's pod on the lab as the orchestration does, without it: pod, then its Secret, then its last word."""

from __future__ import annotations

from typing import Any

from mtv.kubevirt.cluster import Cluster
from mtv.kubevirt.pods import PodRequest
from mtv.kubevirt.resources import PODS, SECRETS


def start_pod(cluster: Cluster, request: PodRequest) -> None:
    """Create the pod, and its Secret owned by it."""
    pod = cluster.create(PODS, request.pod)
    owner = {"apiVersion": "v1", "kind": "Pod", "name": request.name, "uid": pod["metadata"]["uid"]}
    cluster.create(
        SECRETS,
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": request.secret_name,
                "namespace": request.namespace,
                "labels": request.labels,
                "ownerReferences": [owner],
            },
            "stringData": dict(request.secret_files),
        },
    )


def last_word(cluster: Cluster, request: PodRequest, *, timeout_s: float = 600) -> str:
    """Wait for the pod's end and return its termination message."""

    def ended() -> dict[str, Any] | None:
        pod = cluster.get(PODS, request.name, request.namespace)
        return pod if pod and pod["status"]["phase"] in ("Succeeded", "Failed") else None

    pod = cluster.wait(ended, timeout_s=timeout_s, what=f"pod {request.name}")
    state = pod["status"]["containerStatuses"][0]["state"]["terminated"]
    return str(state.get("message", ""))
