"""Virtual machines on the target: make, start, stop, remove, and read what their guests say."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping
from typing import Any

import msgspec

from mtv.kubevirt import labels
from mtv.kubevirt.cluster import Cluster, Conflict
from mtv.kubevirt.resources import API_GROUPS, CLAIMS, INSTANCES, PODS, VIRTUAL_MACHINES
from mtv.model.errors import ConnectionRefused, PermanentError, TemporaryError

CONSOLE_CONTAINER = "guest-console-log"
STOP_TIMEOUT_S = 300.0
Own = Callable[[Mapping[str, Any]], bool]
"""Whether a machine or an instance is the VM's, by its spec: labels may be copied."""
_STOP_POLL_S = 1.0
_CREATED_BY = "kubevirt.io/created-by"
_TARGET_IDENTITY = (labels.PLAN, labels.VM, labels.ROLE)
_NO_DRY_RUN = "does not support dry run"
"""What the API server says where somebody's webhook has side effects: nothing about the object."""


class Accepted(msgspec.Struct, frozen=True, kw_only=True):
    """A machine that is the migrated VM: `run` accepted it. `is_leaving` while it is being deleted."""

    name: str
    run: str
    is_leaving: bool = False


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

    Raises `PermanentError` when the name belongs to somebody else's machine. One that was accepted is found, too: ask
    `find_accepted` first.
    """
    metadata = machine["metadata"]
    found = _made_before(cluster, machine)
    if found:
        if found[0]["metadata"].get("deletionTimestamp"):
            raise TemporaryError(f"VirtualMachine {metadata['name']} is still being deleted", code="vm-terminating")
        return found[0]
    try:
        return cluster.create(VIRTUAL_MACHINES, machine)
    except Conflict as error:
        raise _name_taken(metadata) from error


def why_not_tried(cluster: Cluster, machine: Mapping[str, Any]) -> str:
    """Have the target judge a VirtualMachine without making it; return why it could not, "" when it takes it.

    One that an earlier attempt made was judged then. Its claims need not exist. Raises `PermanentError` with the API's
    own words when the machine is refused, or when its name belongs to somebody else's.
    """
    metadata = machine["metadata"]
    if _made_before(cluster, machine):
        return "an earlier attempt made it"
    try:
        cluster.create(VIRTUAL_MACHINES, machine, dry_run=True)
    except Conflict as error:
        raise _name_taken(metadata) from error
    except PermanentError as error:
        if _NO_DRY_RUN in error.message:
            return error.message
        if isinstance(error, ConnectionRefused) or error.code == "forbidden":
            raise  # rights or a quota: its cure says so
        raise PermanentError(
            f"the target would refuse the VM: {error.message}",
            cure="change the VM or its maps so that it is taken; nothing was touched",
            code="machine-refused",
        ) from error
    return ""


def _made_before(cluster: Cluster, machine: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the machines of the same identity that use its claims; somebody's clone has the labels and claims of its
    own.
    """
    metadata, claims = machine["metadata"], set(claims_of(machine["spec"]["template"]["spec"]))
    identity = {key: metadata["labels"][key] for key in _TARGET_IDENTITY}
    found = cluster.find(VIRTUAL_MACHINES, metadata["namespace"], identity)
    return [one for one in found if claims & set(claims_of(one["spec"]["template"]["spec"]))]


def claims_of(spec: Mapping[str, Any]) -> list[str]:
    """Return the names of the claims that the spec of a machine's template, or of an instance, uses."""
    sources = [volume.get("ephemeral") or volume for volume in spec.get("volumes") or ()]
    claims = [source.get("persistentVolumeClaim") or source.get("dataVolume") or {} for source in sources]
    return [str(claim.get("claimName") or claim.get("name")) for claim in claims if claim]


def _name_taken(metadata: Mapping[str, Any]) -> PermanentError:
    return PermanentError(
        f"namespace {metadata['namespace']} has a VirtualMachine {metadata['name']} that this plan did not make",
        cure="set target_name for the VM, or remove the other machine",
        code="target-name-taken",
    )


def owners_of(claims: Iterable[Mapping[str, Any]]) -> frozenset[str]:
    """Return the uids of the machines that own these claims."""
    return frozenset(owner["uid"] for claim in claims for owner in claim["metadata"].get("ownerReferences") or ())


def accepted_by(machine: Mapping[str, Any], owners: Container[str]) -> str:
    """Return the run that accepted a machine, "" when none did.

    One that was accepted before there was an annotation for it shows it by owning its disk claims: it is among
    `owners`. The run that made it had accepted it, too.
    """
    metadata = machine["metadata"]
    accepted = (metadata.get("annotations") or {}).get(labels.ACCEPTED)
    if accepted:
        return str(accepted)
    return str((metadata.get("labels") or {}).get(labels.RUN, "unknown")) if metadata["uid"] in owners else ""


def find_accepted(cluster: Cluster, namespace: str, having: Mapping[str, str]) -> Accepted | None:
    """Return the machine that carries `having` and was accepted, by whatever run and store; None when there is none."""
    found = cluster.find(VIRTUAL_MACHINES, namespace, having)
    if not found:
        return None
    owners = owners_of(cluster.find(CLAIMS, namespace, {key: having[key] for key in (labels.PLAN, labels.VM)}))
    for machine in found:
        if run := accepted_by(machine, owners):
            metadata = machine["metadata"]
            return Accepted(name=metadata["name"], run=run, is_leaving=bool(metadata.get("deletionTimestamp")))
    return None


def accept(cluster: Cluster, machine: Mapping[str, Any], run: str) -> None:
    """Mark a machine as the migrated VM: what the cluster says of it holds for every store there is."""
    metadata = machine["metadata"]
    cluster.annotate(VIRTUAL_MACHINES, metadata["name"], metadata["namespace"], {labels.ACCEPTED: run})


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

    instances: set[str] = set()

    def runs(pods: list[dict[str, Any]]) -> bool:
        return not all(_ended(pod) for pod in pods)

    def gone() -> bool:
        instance = cluster.get(INSTANCES, name, namespace)
        if instance is not None:
            instances.add(instance["metadata"]["uid"])
            return False
        # A namespace may hold the launchers of a thousand machines: all are looked at only to be sure in the end.
        own = (cluster.find(PODS, namespace, {_CREATED_BY: uid}) for uid in instances)
        return not any(map(runs, own)) and not runs(launcher_pods(cluster, name, namespace))

    cluster.wait(gone, timeout_s=timeout_s, what=f"{name} in {namespace} to stop", interval_s=_STOP_POLL_S)


def launcher_pods(cluster: Cluster, name: str, namespace: str) -> list[dict[str, Any]]:
    """Return the launcher pods of the machine or instance called `name`, whichever instance they belong to."""
    pods = cluster.find(PODS, namespace, {"kubevirt.io": "virt-launcher"})
    return [pod for pod in pods if pod["metadata"].get("annotations", {}).get("kubevirt.io/domain") == name]


def remove(
    cluster: Cluster,
    namespace: str,
    having: Mapping[str, str],
    *,
    own: Own = lambda _: True,
    timeout_s: float = STOP_TIMEOUT_S,
) -> list[str]:
    """Stop and remove the machines that carry `having`; return their names once nothing of them runs any more.

    `own` judges the spec of a machine's template: one that is not own is left.
    """
    found = cluster.find(VIRTUAL_MACHINES, namespace, having)
    names = [item["metadata"]["name"] for item in found if own(item["spec"]["template"]["spec"])]
    for name in names:
        stop(cluster, name, namespace, timeout_s=timeout_s)
    if names:
        cluster.remove_labelled(VIRTUAL_MACHINES, namespace, having, timeout_s=timeout_s, only=names)
    return names


def remove_instances(
    cluster: Cluster,
    namespace: str,
    having: Mapping[str, str],
    *,
    own: Own = lambda _: True,
    timeout_s: float = STOP_TIMEOUT_S,
) -> list[str]:
    """Remove instances that carry `having` (throw-away boots) and wait until their launcher pods are gone, too.

    `own` judges the spec of an instance: one that is not own is left.
    """
    found = [item["metadata"]["name"] for item in cluster.find(INSTANCES, namespace, having) if own(item["spec"])]
    if not found:
        return []
    names = cluster.remove_labelled(INSTANCES, namespace, having, timeout_s=timeout_s, only=found)
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
