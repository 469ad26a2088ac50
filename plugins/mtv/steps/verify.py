"""Step verify: the guest itself proves that it booted, on its console or by its agent. `Running` proves nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mtv.kubevirt import console, machines
from mtv.kubevirt.cluster import Cluster
from mtv.kubevirt.labels import Role
from mtv.kubevirt.resources import INSTANCES, VIRTUAL_MACHINES
from mtv.kubevirt.virtual_machine import boot_proof_instance
from mtv.model.errors import MtvError, PermanentError, TemporaryError
from mtv.model.evidence import EvidenceKind, VmPhase
from mtv.steps import claiming, holding, layout, source, started_again, target_objects
from mtv.steps.context import VmContext
from mtv.steps.create_vm import wants_to_run
from mtv.steps.journal import recorded

STEP = "verify"
_POLL_S = 2.0


def verify(ctx: VmContext) -> None:
    """Prove the boot: of the VM that runs, or of a throw-away instance over the disks of one that stays off.

    A VM that stays off without `boot_proof.throw_away` is recorded as not asked for. Raises `PermanentError` with the
    last console lines in the evidence when nothing proves the boot in time.
    """
    with recorded(ctx, STEP):
        if holding.is_migrated(ctx, STEP):
            return
        row = holding.require(ctx, STEP, {VmPhase.CREATED, VmPhase.VERIFIED}, clear="create_vm")
        if row.phase is VmPhase.VERIFIED:
            ctx.log(f"{ctx.vm.name}: verified already")
            return
        with ctx.cluster() as cluster:
            claiming.require(ctx, cluster)
            machine = _machine(ctx, cluster)
            _require_left_off(ctx, cluster)
            if wants_to_run(ctx):
                name = machine["metadata"]["name"]
                proof = _watch(ctx, cluster, name, lambda: cluster.get(VIRTUAL_MACHINES, name, ctx.namespace))
            elif ctx.vm.boot_proof.throw_away:
                proof = _throw_away(ctx, cluster, machine)
            else:
                proof = {"proven": False, "how": "not asked", "marker": "", "lines": [], "seconds": 0.0}
        ctx.store.add_evidence(ctx.run.id, ctx.vm.id, EvidenceKind.BOOT, proof)
        if proof["how"] == "nothing seen":
            raise PermanentError(
                f"{ctx.vm.name}: nothing proved its boot within {ctx.vm.boot_proof.timeout_s} s ({proof['why']})",
                cure="the evidence holds the last console lines; a slow guest needs a longer boot_proof.timeout_s",
                code="boot-not-proven",
            )
        with ctx.cluster() as cluster:
            _require_left_off(ctx, cluster)  # watching takes minutes
        ctx.store.advance(*ctx.key, ctx.run.id, VmPhase.VERIFIED, expect={VmPhase.CREATED})


def _require_left_off(ctx: VmContext, cluster: Cluster) -> None:
    """Raise `DriftError` when the source was started since it was copied: both would run, or one be outdated."""
    with ctx.provider(ctx.vm.source) as provider:
        started_again.refuse(ctx, provider, started_again.claims_now(ctx, cluster))


def remove_boot_proofs(ctx: VmContext, cluster: Cluster) -> list[str]:
    """Remove throw-away instances of the VM and wait until nothing of them runs."""
    return machines.remove_instances(cluster, ctx.namespace, layout.of_role(ctx, Role.BOOT_PROOF))


def _machine(ctx: VmContext, cluster: Cluster) -> dict[str, Any]:
    found = target_objects.machines_of(ctx, cluster)
    if not found:
        raise PermanentError(
            f"{ctx.vm.name}: its VirtualMachine is gone from {ctx.namespace}",
            cure="clear the task create_vm of this VM and what follows it",
            code="vm-missing",
        )
    return found[0]


def _throw_away(ctx: VmContext, cluster: Cluster, machine: dict[str, Any]) -> dict[str, Any]:
    """Boot the disks under a copy-on-write layer, on no network, and remove the instance whatever happens."""
    with ctx.provider(ctx.vm.source) as provider:
        source.require_off(ctx, provider, source.read(ctx, provider), "its disks are booted only while it is off")
    remove_boot_proofs(ctx, cluster)
    instance = boot_proof_instance(machine, layout.object_labels(ctx, Role.BOOT_PROOF))
    name = instance["metadata"]["name"]
    ctx.log(f"{ctx.vm.name}: throw-away boot {ctx.namespace}/{name}")
    try:
        cluster.create(INSTANCES, instance)
        proof = _watch(ctx, cluster, name, lambda: cluster.get(INSTANCES, name, ctx.namespace))
    except BaseException:
        # Its removal must not hide why we are here; settle removes it again if this fails.
        try:
            remove_boot_proofs(ctx, cluster)
        except MtvError as error:
            ctx.log(f"{ctx.vm.name}: the throw-away boot is not removed yet: {error}")
        raise
    remove_boot_proofs(ctx, cluster)
    return {**proof, "throw_away": True}


def _watch(ctx: VmContext, cluster: Cluster, name: str, owner: Callable[[], dict[str, Any] | None]) -> dict[str, Any]:
    """Read console and agent until one proves the boot or the time is over; return the evidence BOOT."""
    started = ctx.clock()
    timeout_s, marker = float(ctx.vm.boot_proof.timeout_s), ctx.vm.boot_proof.marker
    console.sighting("", marker)  # a marker that is no regular expression fails here, not after the wait
    last = ""

    def look() -> dict[str, Any] | None:
        nonlocal last
        instance = cluster.get(INSTANCES, name, ctx.namespace)
        if instance is None:
            return None
        last = machines.console(cluster, instance) or last
        sighting = console.sighting(last, marker)
        if sighting is not None:
            return {
                "how": "console marker" if marker else "login prompt",
                "marker": sighting.marker,
                "lines": list(sighting.lines),
            }
        if not marker and machines.guest_agent_connected(instance):
            return {"how": "guest agent", "marker": "AgentConnected", "lines": list(console.tail(last))}
        return None

    try:
        seen = cluster.wait(look, timeout_s=timeout_s, what=f"{name} to prove its boot", interval_s=_POLL_S)
    except TemporaryError as error:
        if error.code != "wait-timeout":
            raise
        why = machines.why_not_running(owner() or {}) or error.message
        lines = list(console.tail(last))
        return {"proven": False, "how": "nothing seen", "marker": "", "lines": lines, "seconds": timeout_s, "why": why}
    ctx.log(f"{ctx.vm.name}: boot proven by {seen['how']}: {seen['marker']}")
    return {"proven": True, **seen, "seconds": round(ctx.clock() - started, 1)}
