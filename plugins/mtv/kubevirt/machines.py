"""Virtual machines on the target: make, start, stop, remove, and read what their guests say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mtv.kubevirt import labels
from mtv.kubevirt.cluster import Cluster, Conflict
from mtv.kubevirt.resources import API_GROUPS, CLAIMS, INSTANCES, PODS, VIRTUAL_MACHINES
from mtv.model.errors import PermanentError, TemporaryError

CONSOLE_CONTAINER = "guest-console-log"
STOP_TIMEOUT_S = 300.0
_CREATED_BY = "kubevirt.io/created-by"
_TARGET_IDENTITY = (labels.PLAN, labels.VM, labels.ROLE)


def is_served(cluster: Cluster) -> bool:
    """Whether the cluster serves KubeVirt's machines at all."""
    return cluster.get(API_GROUPS, "kubevirt.io") is not None


def require_kubevirt(cluster: Cluster) -> None:
    """Raise `PermanentError` when the target has no KubeVirt."""
    if not is_served(cluster):
        raise PermanentError(
            "the target cluster does not serve kubevirt.io: KubeVirt is not installed there",
            cure="install KubeVirt, or point target.connection at another cluster",
            code="kubevirt-missing",
        )


def ensure(cluster: Cluster, machine: Mapping[str, Any]) -> dict[str, Any]:
    """Return the VM's VirtualMachine, made now or by an earlier attempt (found by labels).

    Raises `PermanentError` when the name belongs to somebody else's machine.
    """
    metadata = machine["metadata"]
    identity = {key: metadata["labels"][key] for key in _TARGET_IDENTITY}
    found = cluster.find(VIRTUAL_MACHINES, metadata["namespace"], identity)
    if found:
        if found[0]["metadata"].get("deletionTimestamp"):
            raise TemporaryError(f"VirtualMachine {metadata['name']} is still being deleted", code="vm-terminating")
        return found[0]
    try:
        return cluster.create(VIRTUAL_MACHINES, machine)
    except Conflict as error:
        raise PermanentError(
            f"namespace {metadata['namespace']} has a VirtualMachine {metadata['name']} that this plan did not make",
            cure="set target_name for the VM, or remove the other machine",
            code="target-name-taken",
        ) from error


def set_run_strategy(cluster: Cluster, name: str, namespace: str, strategy: str) -> dict[str, Any]:
    """Set `spec.runStrategy` (Always or Halted)."""
    return cluster.merge(VIRTUAL_MACHINES, name, namespace, {"spec": {"runStrategy": strategy}})


def stop(cluster: Cluster, name: str, namespace: str, *, timeout_s: float = STOP_TIMEOUT_S) -> None:
    """Stop a machine and wait until it is proven stopped: no instance and no launcher pod.

    Raises `TemporaryError` while it is not: whoever waits for this to start the source must not start it.
    """
    instance = cluster.get(INSTANCES, name, namespace)
    if cluster.get(VIRTUAL_MACHINES, name, namespace) is not None:
        set_run_strategy(cluster, name, namespace, "Halted")
    elif instance is not None:
        cluster.delete(INSTANCES, name, namespace)
    wait_stopped(cluster, name, namespace, timeout_s=timeout_s)


def wait_stopped(cluster: Cluster, name: str, namespace: str, *, timeout_s: float) -> None:
    """Wait until neither an instance called `name` nor a launcher pod of it is there. Raises `TemporaryError`."""

    def gone() -> bool:
        if cluster.get(INSTANCES, name, namespace) is not None:
            return False
        return not [pod for pod in launcher_pods(cluster, name, namespace) if not _ended(pod)]

    cluster.wait(gone, timeout_s=timeout_s, what=f"{name} in {namespace} to stop")


def launcher_pods(cluster: Cluster, name: str, namespace: str) -> list[dict[str, Any]]:
    """Return the launcher pods of the machine or instance called `name`, whichever instance they belong to."""
    pods = cluster.find(PODS, namespace, {"kubevirt.io": "virt-launcher"})
    return [pod for pod in pods if pod["metadata"].get("annotations", {}).get("kubevirt.io/domain") == name]


def remove(
    cluster: Cluster, namespace: str, having: Mapping[str, str], *, timeout_s: float = STOP_TIMEOUT_S
) -> list[str]:
    """Stop and remove the machines that carry `having`; return their names once nothing of them runs any more."""
    names = [item["metadata"]["name"] for item in cluster.find(VIRTUAL_MACHINES, namespace, having)]
    for name in names:
        stop(cluster, name, namespace, timeout_s=timeout_s)
    cluster.remove_labelled(VIRTUAL_MACHINES, namespace, having, timeout_s=timeout_s)
    return names


def remove_instances(
    cluster: Cluster, namespace: str, having: Mapping[str, str], *, timeout_s: float = STOP_TIMEOUT_S
) -> list[str]:
    """Remove instances that carry `having` (throw-away boots) and wait until their launcher pods are gone, too."""
    names = cluster.remove_labelled(INSTANCES, namespace, having, timeout_s=timeout_s)
    for name in names:
        wait_stopped(cluster, name, namespace, timeout_s=timeout_s)
    return names


def own_claims(cluster: Cluster, machine: Mapping[str, Any], claim_names: list[str]) -> None:
    """Make the machine the owner of its disk claims: they go when it is deleted, as users of KubeVirt expect."""
    metadata = machine["metadata"]
    owner = {
        "apiVersion": machine["apiVersion"],
        "kind": machine["kind"],
        "name": metadata["name"],
        "uid": metadata["uid"],
        "blockOwnerDeletion": True,
    }
    for name in claim_names:
        cluster.merge(CLAIMS, name, metadata["namespace"], {"metadata": {"ownerReferences": [owner]}})


def console(cluster: Cluster, instance: Mapping[str, Any]) -> str:
    """Return what the instance's guest has written to its serial console so far."""
    namespace = instance["metadata"]["namespace"]
    pods = cluster.find(PODS, namespace, {_CREATED_BY: instance["metadata"]["uid"]})
    texts = [cluster.pod_log(pod["metadata"]["name"], namespace, CONSOLE_CONTAINER) for pod in pods]
    return "".join(texts)


def guest_agent_connected(instance: Mapping[str, Any]) -> bool:
    """Whether the guest agent answers, as KubeVirt says."""
    conditions = instance.get("status", {}).get("conditions", [])
    return any(c.get("type") == "AgentConnected" and c.get("status") == "True" for c in conditions)


def why_not_running(machine_or_instance: Mapping[str, Any]) -> str:
    """Return KubeVirt's own words on why it does not run, or an empty text."""
    status = machine_or_instance.get("status", {})
    words = [
        f"{c.get('reason', '')}: {c.get('message', '')}"
        for c in status.get("conditions", [])
        if c.get("status") == "False" and c.get("message")
    ]
    return "; ".join([str(status.get("printableStatus") or status.get("phase") or ""), *words]).strip("; ")


def _ended(pod: Mapping[str, Any]) -> bool:
    return pod.get("status", {}).get("phase") in ("Succeeded", "Failed")
