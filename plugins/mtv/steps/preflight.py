"""Proof before anything is touched: QEMU's user can open a Block claim of each class that the VM uses.

A class whose devices belong to root fails every copy and every boot; it is cheaper to know before the shutdown.
Runs once per class and run; VMs of a wave that ask at the same time share one pod.
"""

from __future__ import annotations

from typing import Any

from mtv.kubevirt import labels, names, pods
from mtv.kubevirt.claims import MIB, Claim, manifest
from mtv.kubevirt.cluster import Cluster, Conflict
from mtv.kubevirt.labels import Role
from mtv.kubevirt.resources import CLAIMS, EVENTS, PODS
from mtv.model.errors import PermanentError, TemporaryError
from mtv.model.evidence import EvidenceKind
from mtv.steps.context import VmContext

TIMEOUT_S = 180
_SIZE_BYTES = 4 * MIB
_ENDED = ("Succeeded", "Failed")
_PROVEN: dict[str, Any] = {"status": {"phase": "Succeeded"}}  # another VM's prepare saw the pod succeed and removed it


def prove_block_class(ctx: VmContext, cluster: Cluster, storage_class: str) -> None:
    """Run `mtv-mover preflight-block` on a claim of the class, unless this run did already.

    Raises `PermanentError` with the pod's words when the device cannot be opened.
    """
    subject = f"preflight:{storage_class}"
    if _is_proven(ctx, subject):
        return
    name = names.preflight(ctx.plan.name, storage_class, ctx.run.id)
    having = {
        labels.PLAN: labels.value(ctx.plan.name),
        labels.RUN: labels.value(ctx.run.id),
        labels.ROLE: Role.PREFLIGHT.value,
        labels.STORAGE_CLASS: labels.value(storage_class),
    }
    ctx.log(f"preflight of class {storage_class}: can 107:107 open a Block claim of it?")
    try:
        _create(ctx, cluster, name, storage_class, having)
        pod = cluster.wait(
            lambda: _PROVEN if _is_proven(ctx, subject) else _ended(cluster.get(PODS, name, ctx.namespace)),
            timeout_s=TIMEOUT_S,
            what=f"preflight pod {name} in {ctx.namespace}",
        )
        _judge(ctx, cluster, storage_class, pod)
        ctx.store.add_evidence(
            ctx.run.id, "", EvidenceKind.VOLUMES, {"preflight": storage_class, "opened_by": "107:107"}, subject=subject
        )
    except TemporaryError as error:
        why = "; ".join(_events(cluster, ctx.namespace, name)) or error.message
        raise TemporaryError(
            f"class {storage_class}: the preflight did not end: {why}", code="preflight-timeout"
        ) from error
    finally:
        cluster.remove_labelled(PODS, ctx.namespace, having, timeout_s=60, grace_s=0)
        cluster.remove_labelled(CLAIMS, ctx.namespace, having, timeout_s=60)


def _is_proven(ctx: VmContext, subject: str) -> bool:
    return any(row.subject == subject for row in ctx.store.evidence(ctx.run.id, "", EvidenceKind.VOLUMES))


def _create(ctx: VmContext, cluster: Cluster, name: str, storage_class: str, having: dict[str, str]) -> None:
    claim = Claim(name=name, storage_class=storage_class, size_bytes=_SIZE_BYTES, volume_mode="Block")
    pod = pods.preflight_pod(
        name=name,
        namespace=ctx.namespace,
        image=ctx.settings.mover_image,
        object_labels=having,
        claim_name=name,
        placement=ctx.settings.pod_placement,
        deadline_s=TIMEOUT_S,
    )
    for kind, body in ((CLAIMS, manifest(claim, namespace=ctx.namespace, object_labels=having)), (PODS, pod)):
        try:
            cluster.create(kind, body)
        except Conflict:
            ctx.log(f"{kind.plural}/{name} is there already: another VM of this run asks the same")


def _ended(pod: dict[str, Any] | None) -> dict[str, Any] | None:
    return pod if pod is not None and pod.get("status", {}).get("phase") in _ENDED else None


def _judge(ctx: VmContext, cluster: Cluster, storage_class: str, pod: dict[str, Any]) -> None:
    if pod["status"]["phase"] == "Succeeded":
        return
    said = cluster.pod_log(pod["metadata"]["name"], ctx.namespace, "mover", limit_bytes=2000).strip()
    why = said or pod["status"].get("message", "no word from the pod")
    raise PermanentError(
        f"StorageClass {storage_class}: 107:107 cannot open a Block claim: {why}",
        cure="let the runtime give devices to pods (device_ownership_from_security_context), or use Filesystem",
        code="block-not-accessible",
    )


def _events(cluster: Cluster, namespace: str, name: str) -> list[str]:
    return [
        str(event.get("message", ""))
        for event in cluster.find(EVENTS, namespace)
        if event.get("involvedObject", {}).get("name") == name and event.get("type") == "Warning"
    ][-3:]
