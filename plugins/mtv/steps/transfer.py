"""Step transfer: one pod copies every disk of the VM and proves every block; retries resume from its journal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TypedDict

import msgspec

from mtv.kubevirt import labels, names, pods, volumes
from mtv.kubevirt.claims import Claim
from mtv.kubevirt.labels import Role
from mtv.kubevirt.pods import PodRequest
from mtv.kubevirt.resources import INSTANCES
from mtv.kubevirt.volumes import DiskState
from mtv.model.errors import PermanentError, TemporaryError
from mtv.model.evidence import COPY_KEPT, EvidenceKind, VmPhase
from mtv.model.plan import Bandwidth, Wave
from mtv.model.rates import parse_rate
from mtv.model.source import PowerState, SourceVm
from mtv.model.transfer import (
    DiskSource,
    DiskTarget,
    DiskTransfer,
    LimitWindow,
    Proof,
    TransferResult,
    TransferSpec,
    Vddk,
    Verify,
    VsphereNfc,
)
from mtv.plan.bandwidth import offset_changes, zone_of
from mtv.providers.base import Provider
from mtv.steps import claiming, holding, layout, results, source, source_copies, source_files
from mtv.steps.context import VmContext
from mtv.steps.journal import beginning, ending, skip
from mtv.steps.layout import Layout
from mtv.steps.prepare import refuse_blocked

STEP = "transfer"
CONNECTIONS = 8
"""What a pod holds where the source sets no bound of its own."""
NFC_STREAMS_PER_HOST = 10
"""With more, the NFC service of an ESXi host runs out of memory, and transfers of other VMs fail too."""
_BEFORE = frozenset({VmPhase.PREPARING, VmPhase.TRANSFERRING})


def pod_request(ctx: VmContext) -> PodRequest | None:
    """Return the pod that copies the VM, or None when its claims hold a proven copy already (then it is done).

    The source must be off and unchanged. Every call fences the movers before it; a pod that still runs is found by the
    request's labels and goes on. Raises `PermanentError` naming the task to clear when something is missing,
    `NfcStreamsTaken` while other VMs have all streams of its ESXi host.
    """
    with beginning(ctx, STEP):
        if holding.is_migrated(ctx, STEP):
            skip(ctx, STEP, "migrated already")
            return None
        row = holding.require(ctx, STEP, _BEFORE | holding.COPIED, clear="prepare")
        refuse_blocked(ctx)
        decided = layout.recorded(ctx)
        with ctx.provider(ctx.vm.source) as provider, ctx.cluster() as cluster:
            claiming.require(ctx, cluster)
            if row.phase is not VmPhase.VERIFIED:
                holding.refuse_accepted(ctx, cluster)
            found = layout.states(ctx, cluster, decided)
            now = source.read(ctx, provider)
            source.require_off(ctx, provider, now, "its disks are copied only while it is off")
            if layout.all_proven(now, found):
                if row.phase in _BEFORE:
                    ctx.store.advance(*ctx.key, ctx.run.id, VmPhase.TRANSFERRED)
                skip(ctx, STEP, COPY_KEPT)
                return None
            _refuse_unsafe(ctx, row.phase, found)
            if cluster.find(INSTANCES, ctx.namespace, labels.of_vm(ctx.plan.name, ctx.vm.id)):
                raise TemporaryError(f"{ctx.vm.name}: an instance still runs on its claims", code="claims-in-use")
            ctx.store.advance(*ctx.key, ctx.run.id, VmPhase.TRANSFERRING)
            if not results.live_pods(ctx, cluster, Role.TRANSFER):
                for disk in now.disks:
                    changes = {**volumes.UNPROVEN, labels.COPYING: disk.generation}
                    volumes.mark(cluster, ctx.namespace, found[disk.id].claim.name, changes)
            epoch = ctx.store.bump_epoch(*ctx.key, ctx.run.id)
            return _request(ctx, provider, now, decided, found, epoch)


def finish(ctx: VmContext, termination_message: str) -> None:
    """Read the result of the pod; a success must name every disk with its digest and proof.

    Raises `TemporaryError` when a retry helps (it resumes from the journal), else `PermanentError`.
    """
    with ending(ctx, STEP):
        holding.require(ctx, STEP, _BEFORE, clear="prepare")
        ctx.store.release_nfc_streams(*ctx.key, ctx.run.id)  # its pod has ended, however that was
        result = results.decode(ctx, STEP, termination_message, TransferResult)
        if result.disks_left_out:
            with ctx.cluster() as cluster:
                result = results.whole(ctx, cluster, Role.TRANSFER, result)
        ctx.store.add_evidence(ctx.run.id, ctx.vm.id, EvidenceKind.TRANSFER, msgspec.to_builtins(result))
        if not result.ok:
            raise results.error_of(ctx, STEP, result.failure)
        decided = layout.recorded(ctx)
        _check(ctx, decided, result)
        with ctx.provider(ctx.vm.source) as provider, ctx.cluster() as cluster:
            claiming.require(ctx, cluster)
            now = source.read(ctx, provider)
            found = layout.states(ctx, cluster, decided)
            power = provider.power_state(now)
            digests = {disk.id: disk.digest for disk in result.disks}
            # A reading of this result that was cut off may have marked some claims.
            unmarked = [disk for disk in now.disks if not _is_marked(found[disk.id], disk.generation, digests[disk.id])]
            moved = [disk.id for disk in unmarked if found[disk.id].copying != disk.generation]
            if moved or power is not PowerState.OFF:
                raise TemporaryError(
                    f"{ctx.vm.name} changed on the source while it was copied "
                    f"(power {power.value}, changed disks: {', '.join(moved) or 'none'})",
                    cure="leave it off; the retry compares and copies again",
                    code="source-changed",
                )
            for disk in unmarked:
                changes = {
                    labels.COPYING: None,
                    labels.STALE: None,
                    labels.GENERATION: disk.generation,
                    labels.DIGEST: digests[disk.id],
                }
                volumes.mark(cluster, ctx.namespace, found[disk.id].claim.name, changes)
            source.pin(ctx, ctx.vm.id, now, subject=source.FINAL)
        ctx.store.advance(*ctx.key, ctx.run.id, VmPhase.TRANSFERRED, expect=_BEFORE)


def _is_marked(state: DiskState, generation: str, digest: str) -> bool:
    return state.is_proven(generation) and state.digest == digest


def _refuse_unsafe(ctx: VmContext, phase: VmPhase, found: dict[str, DiskState]) -> None:
    """Never copy over disks that were sent to a conversion, or that a target VM uses: `prepare` resets them first."""
    if phase in _BEFORE and all(state.is_known_to_its_journal for state in found.values()):
        return
    raise PermanentError(
        f"{ctx.vm.name}: the source differs from the copy that was converted or used (the VM is {phase.value})",
        cure="clear the task prepare of this VM and what follows it",
        code="copy-outdated",
    )


def _request(
    ctx: VmContext, provider: Provider, vm: SourceVm, decided: Layout, found: Mapping[str, DiskState], epoch: int
) -> PodRequest:
    connection = ctx.connections.get(ctx.vm.source)
    source_copies.announce(ctx, provider, vm)
    disks = tuple(
        DiskTransfer(
            id=disk.id,
            size_bytes=disk.size_bytes,
            source=source_files.as_the_pod_sees(connection, provider.disk_source(vm, disk, transport=ctx.vm.transport)),
            target=_target(ctx, decided.claim(disk.id), found[disk.id].uid),
            identity=found[disk.id].identity,  # which the journal of a copy that is kept was begun with
            generation=disk.generation,
        )
        for disk in sorted(vm.disks, key=lambda disk: disk.index)
    )
    spec = TransferSpec(
        plan=ctx.plan.name,
        run=ctx.run.id,
        vm=ctx.vm.id,
        epoch=epoch,
        disks=disks,
        verify=Verify(ctx.vm.verify),
        verify_source=ctx.vm.verify_source,
        connections=_connections(ctx, vm, [disk.source for disk in disks]),
        **_limits(ctx.plan.bandwidth),
    )
    name = names.pod(ctx.plan.name, ctx.vm.id, Role.TRANSFER.value, epoch)
    pod = pods.mover_pod(
        name=name,
        namespace=ctx.namespace,
        image=ctx.settings.mover_image,
        arguments=["transfer", "--spec", results.SPEC_PATH],
        object_labels=layout.object_labels(ctx, Role.TRANSFER),
        resources=pods.TRANSFER,
        disks=decided.disks,
        work_claim=decided.work.name,
        secret_name=name,
        source_volume=source_files.volume(connection, [disk.source for disk in disks]),
        placement=ctx.settings.pod_placement,
        metrics_port=ctx.settings.mover_metrics_port,
    )
    files = {results.SPEC_FILE: msgspec.json.encode(spec).decode(), **provider.pod_credentials()}
    return results.request(ctx, pod, files)


def _connections(ctx: VmContext, vm: SourceVm, sources: Sequence[DiskSource]) -> int:
    """How many connections to its source the pod may hold; NFC streams are taken from those of the VM's host."""
    streaming = [source for source in sources if isinstance(source, VsphereNfc | Vddk)]
    if not streaming:
        return CONNECTIONS
    host = vm.host or streaming[0].host  # where it cannot be seen, the VMs behind one vCenter count as of one host
    granted = ctx.store.take_nfc_streams(
        *ctx.key,
        ctx.run.id,
        host=host.lower(),
        wanted=nfc_streams_wanted(ctx.wave, sources),
        capacity=NFC_STREAMS_PER_HOST,
    )
    ctx.log(f"{ctx.vm.name}: NFC streams of host {host}: {granted}")
    return granted


def nfc_streams_wanted(wave: Wave, sources: Sequence[DiskSource]) -> int:
    """A VM's even share, as all VMs in flight may be of one host; an export needs one stream a disk and no more."""
    share = max(1, NFC_STREAMS_PER_HOST // wave.max_vms_in_flight)
    if all(isinstance(source, VsphereNfc) for source in sources):
        return min(share, len(sources))
    return share


class _Limits(TypedDict):
    limit_bytes_per_s: int
    limits: tuple[LimitWindow, ...]
    limits_utc_offset_min: int
    limits_offset_changes: tuple[tuple[int, int], ...]


_LONGEST_COPY = timedelta(days=15)
"""A pod that is older counts as one that never ends."""


def _limits(bandwidth: Bandwidth) -> _Limits:
    """The plan's limits in the mover's words: its image need not know time zones, so it is told of changes."""
    now = datetime.now(UTC)
    zone = zone_of(bandwidth.timezone)
    offset = now.astimezone(zone).utcoffset() or timedelta()
    return _Limits(
        limit_bytes_per_s=parse_rate(bandwidth.limit),
        limits=tuple(
            LimitWindow(start=window.start, end=window.end, bytes_per_s=parse_rate(window.limit))
            for window in bandwidth.windows
        ),
        limits_utc_offset_min=offset // timedelta(minutes=1),
        limits_offset_changes=tuple(offset_changes(zone, now, now + _LONGEST_COPY)) if bandwidth.windows else (),
    )


def _target(ctx: VmContext, claim: Claim, uid: str) -> DiskTarget:
    path = pods.disk_path(claim)
    if claim.volume_mode == "Block":
        # A claim is bound to one volume for its whole life, and its uid is never given out again.
        return DiskTarget(path=path, block=True, volume=uid)
    return DiskTarget(path=path, preallocate=ctx.vm.preallocate)


def _check(ctx: VmContext, decided: Layout, result: TransferResult) -> None:
    """A result that says ok must account for every disk: nothing is believed that was not said."""
    by_id = {disk.id: disk for disk in result.disks}
    missing = [claim.disk_id for claim in decided.disks if claim.disk_id not in by_id]
    unproven = [disk.id for disk in result.disks if not disk.digest]
    other = [disk.id for disk in result.disks if disk.verify not in (None, ctx.vm.verify)]
    other += [disk.id for disk in result.disks if ctx.vm.verify_source and not disk.reread]
    if other:
        raise PermanentError(
            f"{ctx.vm.name}: the mover verified in another way than was asked for ({', '.join(dict.fromkeys(other))})",
            cure="mover image and factory may be of different versions",
            code="result-incomplete",
        )
    if Verify(ctx.vm.verify) is Verify.FULL:
        unproven += [disk.id for disk in result.disks if disk.proof is Proof.NONE and disk.id not in unproven]
    if missing or unproven:
        raise PermanentError(
            f"{ctx.vm.name}: the mover reports success but not for every disk "
            f"(missing: {', '.join(missing) or 'none'}; without digest or proof: {', '.join(unproven) or 'none'})",
            cure="mover image and factory may be of different versions",
            code="result-incomplete",
        )
