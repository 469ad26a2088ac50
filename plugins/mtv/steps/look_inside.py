"""Can the guest be converted? Asked of its disks on the source, before hours of copying, where the plan wants to know.

A pod of its own that reads a few MiB, run within `prepare`, so that it costs no task. A disk that comes as a stream
cannot be looked into. What is found is evidence PREFLIGHT, and concerns of the VM: Critical for what makes a conversion
hopeless. One that the plan accepts does not stop the VM.
"""

from __future__ import annotations

from typing import Any

import msgspec

from mtv.kubevirt import mapping, names, pods
from mtv.kubevirt.cluster import Cluster
from mtv.kubevirt.labels import Role
from mtv.kubevirt.resources import PODS, SECRETS
from mtv.model.concern import Category, Concern
from mtv.model.conversion import ANY_FILE, Inspection, LuksKey, PreflightDisk, PreflightResult, PreflightSpec
from mtv.model.errors import TemporaryError
from mtv.model.evidence import EvidenceKind
from mtv.model.log_parts import INSPECTION
from mtv.model.source import SourceVm
from mtv.providers.base import Provider
from mtv.steps import guest, kvm, layout, pod_log, results, source_files
from mtv.steps.context import VmContext
from mtv.steps.layout import Layout
from mtv.validation import accepted
from mtv.validation.conditions.ids import PREFLIGHT

_LOOK_S = 1200
_TIMEOUT_S = _LOOK_S + 300
"""Time for the pod to be scheduled and its image to be fetched comes on top."""
_GONE_TIMEOUT_S = 120
_ENDED = ("Succeeded", "Failed")


def look_inside(ctx: VmContext, provider: Provider, cluster: Cluster, vm: SourceVm, decided: Layout) -> None:
    """Look into the disks of a source that is off, unless this run has done so or the plan does not ask for it.

    Raises `PermanentError` with the code of a conversion that would fail, `TemporaryError` when a retry helps.
    """
    if not ctx.vm.preflight or not layout.converts(ctx, vm):
        return
    if layout.all_proven(vm, layout.states(ctx, cluster, decided)):
        return  # nothing is going to be copied
    subject = ",".join(sorted(f"{disk.id}={disk.generation}" for disk in vm.disks))
    seen = ctx.store.evidence(ctx.run.id, ctx.vm.id, EvidenceKind.PREFLIGHT)
    looks = (msgspec.convert(row.document, PreflightResult) for row in seen if row.subject == subject)
    if any(not _stops(look, _concerns(ctx, look)) for look in looks):
        return
    ctx.log(f"{ctx.vm.name}: looking into its disks before they are copied")
    result = _ask(ctx, provider, cluster, vm, decided)
    document = msgspec.to_builtins(result)
    ctx.store.add_evidence(ctx.run.id, ctx.vm.id, EvidenceKind.PREFLIGHT, document, subject=subject)
    concerns = _concerns(ctx, result)
    _add_concerns(ctx, concerns)
    if _stops(result, concerns):
        raise results.error_of(ctx, "preflight", result.failure)
    for concern in concerns:
        if concern.accepted:
            ctx.log(f"{concern.label}: goes on, accepted by {concern.accepted.by}: {concern.accepted.reason}")
    if result.ok and result.inspection is not None:
        ctx.log(f"{ctx.vm.name}: {result.inspection.os_id or result.inspection.product} can be converted")


def _ask(ctx: VmContext, provider: Provider, cluster: Cluster, vm: SourceVm, decided: Layout) -> PreflightResult:
    """Run the pod to its end. One that an earlier try left is ended first: looking again costs little."""
    having = layout.of_role(ctx, Role.INSPECT)
    _remove(ctx, cluster, having)
    request = _request(ctx, provider, vm, decided, with_kvm=kvm.is_offered(cluster))
    try:
        uid = cluster.create(PODS, request.pod)["metadata"]["uid"]
        cluster.create(SECRETS, pods.secret_of(request, uid))
        pod = cluster.wait(
            lambda: _ended(cluster.get(PODS, request.name, ctx.namespace)),
            timeout_s=_TIMEOUT_S,
            what=f"pod {request.name} to look into the disks",
            interval_s=1.0,
        )
        result = results.decode(ctx, "preflight", pods.left_message(pod), PreflightResult)
        found = pod_log.last_told(ctx, cluster, Role.INSPECT, INSPECTION, Inspection)
        return msgspec.structs.replace(result, inspection=found or result.inspection)
    finally:
        _remove(ctx, cluster, having)


def _ended(pod: dict[str, Any] | None) -> dict[str, Any] | None:
    """The pod once it has ended; one that has vanished has ended, too, and left nothing."""
    if pod is None:
        return {"status": {}}
    return pod if pod.get("status", {}).get("phase") in _ENDED else None


def _remove(ctx: VmContext, cluster: Cluster, having: dict[str, str]) -> None:
    for kind in (PODS, SECRETS):
        cluster.remove_labelled(kind, ctx.namespace, having, timeout_s=_GONE_TIMEOUT_S)


def _request(ctx: VmContext, provider: Provider, vm: SourceVm, decided: Layout, *, with_kvm: bool) -> pods.PodRequest:
    connection = ctx.connections.get(ctx.vm.source)
    by_id = {disk.id: disk for disk in vm.disks}
    disks = tuple(
        PreflightDisk(
            id=disk.id,
            size_bytes=disk.size_bytes,
            source=source_files.as_the_pod_sees(connection, provider.disk_source(vm, disk, transport=ctx.vm.transport)),
        )
        for disk in (by_id[claim.disk_id] for claim in decided.in_boot_order())
    )
    spec = PreflightSpec(
        plan=ctx.plan.name,
        run=ctx.run.id,
        vm=ctx.vm.id,
        disks=disks,
        root_disk=mapping.root_partition(ctx.vm.root_disk),
        luks_keys=(LuksKey(file=ANY_FILE),) if ctx.vm.luks else (),
        keys_dir=pods.KEYS_DIR,
        virtio_win=guest.drivers_path(ctx),
        timeout_s=_LOOK_S,
    )
    name = names.pod(ctx.plan.name, ctx.vm.id, Role.INSPECT.value, ctx.store.vm(*ctx.key).epoch)
    pod = pods.mover_pod(
        name=name,
        namespace=ctx.namespace,
        image=ctx.settings.mover_image,
        arguments=["preflight", "--spec", results.SPEC_PATH],
        object_labels=layout.object_labels(ctx, Role.INSPECT),
        resources=msgspec.structs.replace(pods.CONVERT, kvm=with_kvm),
        secret_name=name,
        source_volume=source_files.volume(connection, [disk.source for disk in disks]),
        keys_secret=ctx.vm.luks,
        drivers_claim=guest.drivers_claim(ctx),
        placement=ctx.settings.pod_placement,
        deadline_s=_TIMEOUT_S,
    )
    files = {results.SPEC_FILE: msgspec.json.encode(spec).decode(), **provider.pod_credentials()}
    return results.request(ctx, pod, files)


def _concerns(ctx: VmContext, result: PreflightResult) -> list[Concern]:
    """Return what a look has found, those marked that the plan accepts; what a retry may mend is none."""
    found = [_concern(notice.code, Category.WARNING, notice.message, notice.cure) for notice in result.notices]
    failure = None if result.ok else results.error_of(ctx, "preflight", result.failure)
    if failure is not None and not isinstance(failure, TemporaryError):
        found.insert(0, _concern(failure.code, Category.CRITICAL, failure.message, failure.cure))
    return accepted(ctx.plan, ctx.vm.id, found)


def _stops(result: PreflightResult, concerns: list[Concern]) -> bool:
    """Whether the VM cannot go on: nobody has accepted what was found, or nothing was found out."""
    may_pass = result.failure is not None and result.failure.retryable
    return not result.ok and (may_pass or any(concern.blocks for concern in concerns))


def _add_concerns(ctx: VmContext, found: list[Concern]) -> None:
    """Put what was found beside what validation found of the VM: the newest evidence CONCERNS counts."""
    if found:
        rows = ctx.store.evidence(ctx.run.id, ctx.vm.id, EvidenceKind.CONCERNS)
        before = [row for row in rows[-1].document["concerns"] if not row["id"].startswith(PREFLIGHT)]
        document = {**rows[-1].document, "concerns": [*msgspec.to_builtins(found), *before]}
        ctx.store.add_evidence(ctx.run.id, ctx.vm.id, EvidenceKind.CONCERNS, document)


def _concern(code: str, category: Category, label: str, assessment: str) -> Concern:
    return Concern(id=f"{PREFLIGHT}{code}", category=category, label=label, assessment=assessment)
