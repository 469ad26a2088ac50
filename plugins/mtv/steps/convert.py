"""Step convert: one pod makes the copied guest bootable on KubeVirt, on an overlay, with a journalled commit."""

from __future__ import annotations

import msgspec

from mtv.kubevirt import labels, mapping, names, pods, volumes
from mtv.kubevirt.labels import Role
from mtv.kubevirt.pods import KVM, PodRequest
from mtv.kubevirt.resources import INSTANCES
from mtv.kubevirt.volumes import DiskState
from mtv.model.conversion import ConvertDisk, ConvertResult, ConvertSpec, Inspection
from mtv.model.errors import PermanentError, TemporaryError
from mtv.model.evidence import CONVERSION_KEPT, EvidenceKind, VmPhase
from mtv.model.log_parts import INSPECTION
from mtv.model.source import SourceVm
from mtv.steps import claiming, guest, holding, kvm, layout, pod_log, results, source, started_again
from mtv.steps.context import VmContext
from mtv.steps.journal import beginning, ending, skip
from mtv.steps.layout import Layout

STEP = "convert"
_BEFORE = frozenset({VmPhase.TRANSFERRED, VmPhase.CONVERTING})
_AFTER = frozenset({VmPhase.CONVERTED}) | holding.ON_THE_TARGET


def pod_request(ctx: VmContext) -> PodRequest | None:
    """Return the pod that converts the VM, or None when its claims are converted already or need not be.

    Needs a proven copy of the source as it was after power-off. Raises `PermanentError` naming the task to clear.
    """
    with beginning(ctx, STEP):
        if holding.is_migrated(ctx, STEP):
            skip(ctx, STEP, "migrated already")
            return None
        row = holding.require(ctx, STEP, _BEFORE | _AFTER, clear="transfer")
        decided = layout.recorded(ctx)
        vm = source.final(ctx)
        with ctx.cluster() as cluster:
            claiming.require(ctx, cluster)
            if row.phase is not VmPhase.VERIFIED:
                holding.refuse_accepted(ctx, cluster)
            found = layout.states(ctx, cluster, decided)
            if not layout.all_proven(vm, found):
                raise PermanentError(
                    f"{ctx.vm.name}: the claims hold no proven copy",
                    cure="clear the task transfer of this VM and what follows it",
                    code="not-copied",
                )
            if vm.is_kvm_guest:
                if row.phase in _BEFORE:
                    ctx.store.advance(*ctx.key, ctx.run.id, VmPhase.CONVERTED)
                skip(ctx, STEP, "the guest ran on KVM already; nothing has to be converted")
                return None
            if all(state.converted for state in found.values()):
                if row.phase in _BEFORE:
                    ctx.store.advance(*ctx.key, ctx.run.id, VmPhase.CONVERTED)
                skip(ctx, STEP, CONVERSION_KEPT)
                return None
            _refuse_outdated(ctx, found)
            if cluster.find(INSTANCES, ctx.namespace, labels.of_vm(ctx.plan.name, ctx.vm.id)):
                raise TemporaryError(f"{ctx.vm.name}: an instance still runs on its claims", code="claims-in-use")
            spec = guest.add_to(ctx, cluster, _spec(ctx, vm, decided, found))
            ctx.store.advance(*ctx.key, ctx.run.id, VmPhase.CONVERTING)
            # From here on the pod may commit at any moment: the copy's journal must never be resumed on these bytes.
            for state in found.values():
                changes = {labels.CONVERTING: ctx.run.id, labels.UNTOUCHED: None}
                volumes.mark(cluster, ctx.namespace, state.claim.name, changes)
            epoch = ctx.store.bump_epoch(*ctx.key, ctx.run.id)
            return _request(ctx, msgspec.structs.replace(spec, epoch=epoch), decided, with_kvm=kvm.is_offered(cluster))


def finish(ctx: VmContext, termination_message: str) -> None:
    """Read the result of the pod. Raises `TemporaryError` when a retry helps, else `PermanentError`."""
    with ending(ctx, STEP):
        holding.require(ctx, STEP, _BEFORE, clear="transfer")
        result = results.decode(ctx, STEP, termination_message, ConvertResult)
        with ctx.cluster() as cluster:
            if result.digests_left_out:
                result = results.whole(ctx, cluster, Role.CONVERT, result)
            found = pod_log.last_told(ctx, cluster, Role.CONVERT, INSPECTION, Inspection)
        result = msgspec.structs.replace(result, inspection=found or result.inspection)
        ctx.store.add_evidence(ctx.run.id, ctx.vm.id, EvidenceKind.CONVERSION, msgspec.to_builtins(result))
        decided = layout.recorded(ctx)
        if not result.ok:
            if result.untouched:
                with ctx.cluster() as cluster:
                    for claim in decided.disks:
                        volumes.mark(cluster, ctx.namespace, claim.name, {labels.UNTOUCHED: "true"})
            raise results.error_of(ctx, STEP, result.failure)
        missing = [claim.disk_id for claim in decided.disks if not result.digests.get(claim.disk_id)]
        if missing:
            raise PermanentError(
                f"{ctx.vm.name}: the conversion reports success without a digest of {', '.join(missing)}",
                cure="mover image and factory may be of different versions",
                code="result-incomplete",
            )
        if result.accelerator == "tcg":
            ctx.log(f"{ctx.vm.name}: WARNING: converted under TCG (no usable KVM on the node): slow, but right")
        with ctx.cluster() as cluster:
            for claim in decided.disks:
                changes = {labels.CONVERTED: result.digests[claim.disk_id]}
                volumes.mark(cluster, ctx.namespace, claim.name, changes)
        ctx.store.advance(*ctx.key, ctx.run.id, VmPhase.CONVERTED, expect=_BEFORE)


def _refuse_outdated(ctx: VmContext, found: dict[str, DiskState]) -> None:
    """Convert no copy that is outdated; a source that does not answer now is asked again before the cutover."""
    try:
        with ctx.provider(ctx.vm.source) as provider:
            started_again.refuse(ctx, provider, found)
    except TemporaryError as error:
        ctx.log(f"{ctx.vm.name}: whether its source was started since the copy is asked later: {error.message}")


def _spec(ctx: VmContext, vm: SourceVm, decided: Layout, found: dict[str, DiskState]) -> ConvertSpec:
    """Return what there is to convert; its epoch comes when all is known to be in order."""
    sizes = {disk.id: disk.size_bytes for disk in vm.disks}
    return ConvertSpec(
        plan=ctx.plan.name,
        run=ctx.run.id,
        vm=ctx.vm.id,
        epoch=0,
        disks=tuple(
            ConvertDisk(
                id=claim.disk_id,
                path=pods.disk_path(claim),
                block=claim.volume_mode == "Block",
                size_bytes=sizes[claim.disk_id],
                digest=found[claim.disk_id].digest,
            )
            for claim in decided.in_boot_order()
        ),
        firmware=vm.firmware.value,
        root_disk=mapping.root_partition(ctx.vm.root_disk),
    )


def _request(ctx: VmContext, spec: ConvertSpec, decided: Layout, *, with_kvm: bool) -> PodRequest:
    name = names.pod(ctx.plan.name, ctx.vm.id, Role.CONVERT.value, spec.epoch)
    pod = pods.mover_pod(
        name=name,
        namespace=ctx.namespace,
        image=ctx.settings.mover_image,
        arguments=["convert", "--spec", results.SPEC_PATH],
        object_labels=layout.object_labels(ctx, Role.CONVERT),
        resources=msgspec.structs.replace(pods.CONVERT, kvm=with_kvm),
        disks=decided.disks,
        work_claim=decided.work.name,
        secret_name=name,
        keys_secret=ctx.vm.luks,
        drivers_claim=guest.drivers_claim(ctx),
        placement=ctx.settings.pod_placement,
    )
    if not with_kvm:
        ctx.log(f"{ctx.vm.name}: WARNING: no node offers {KVM}; the conversion is emulated and about ten times slower")
    return results.request(ctx, pod, {results.SPEC_FILE: msgspec.json.encode(spec).decode()})
