"""Who holds a VM: its row is the store's lock. Each step asks here before it touches anything.

Against other stores there is a lease: see `claiming`.
A store may be new, restored or another one; that a target VM was accepted is therefore read from the cluster.
"""

from __future__ import annotations

from collections.abc import Container

from mtv.kubevirt import machines
from mtv.kubevirt.cluster import Cluster
from mtv.kubevirt.labels import Role
from mtv.model.errors import PermanentError, TemporaryError
from mtv.model.evidence import DECIDED, VmPhase
from mtv.steps import layout
from mtv.steps.context import VmContext
from mtv.store import VmRow

ON_THE_TARGET = frozenset({VmPhase.CREATING, VmPhase.CREATED, VmPhase.VERIFIED})
"""Phases in which a VirtualMachine may be using the claims: nobody else writes to them."""
COPIED = frozenset({VmPhase.TRANSFERRED, VmPhase.CONVERTING, VmPhase.CONVERTED}) | ON_THE_TARGET
"""Phases after a proven copy."""
UNDOING = DECIDED - {VmPhase.ACCEPTING}
"""Phases in which `settle` has begun to undo the VM, or is about to: nothing but the end of that comes next."""


def is_migrated(ctx: VmContext, step: str) -> bool:
    """Whether the VM is migrated, or is decided to be: then a step that is cleared has nothing to do, and says so."""
    phase = ctx.store.vm(*ctx.key).phase
    if phase is VmPhase.MIGRATED:
        ctx.log(f"{ctx.vm.name}: {step}: migrated already, nothing to do")
    elif phase is VmPhase.ACCEPTING:
        ctx.log(f"{ctx.vm.name}: {step}: the target is accepted already; only settle has to end")
    return phase in (VmPhase.MIGRATED, VmPhase.ACCEPTING)


def accepted(ctx: VmContext, cluster: Cluster) -> machines.Accepted | None:
    """Return the target VM that a run accepted, whatever the store remembers; None when there is none."""
    return machines.find_accepted(cluster, ctx.namespace, layout.of_role(ctx, Role.TARGET))


def refuse_accepted(ctx: VmContext, cluster: Cluster) -> None:
    """Raise as `refuse` does when a run has accepted the VM on the target."""
    refuse(ctx, accepted(ctx, cluster))


def refuse(ctx: VmContext, found: machines.Accepted | None) -> None:
    """Raise `PermanentError` when the VM lives on the target already: its disks and its power are not ours any more.

    Raises `TemporaryError` while that VM is being deleted.
    """
    if found is None:
        return
    if found.is_leaving:
        raise TemporaryError(f"VirtualMachine {found.name} is still being deleted", code="vm-terminating")
    raise PermanentError(
        f"{ctx.vm.name} was migrated already by run {found.run}: it is VirtualMachine {found.name} in {ctx.namespace}",
        cure="remove its row from the plan, or delete that machine if the VM is to be migrated again",
        code="already-migrated",
    )


def require(ctx: VmContext, step: str, phases: Container[VmPhase], *, clear: str) -> VmRow:
    """Return the VM's row when this run holds it in one of `phases`.

    Raises `PermanentError` naming `clear`, the task that has to run first.
    """
    row = ctx.store.vm(*ctx.key)
    if row.holder != ctx.run.id:
        holder = f"run {row.holder}" if row.holder else "no run"
        raise PermanentError(
            f"{ctx.vm.name}: {step} cannot run: {holder} holds the VM (it is {row.phase.value})",
            cure="clear the task prepare of this VM and what follows it",
            code="not-held",
        )
    if row.phase in UNDOING:
        raise PermanentError(
            f"{ctx.vm.name}: {step} cannot run: settle has begun to undo the VM (it is {row.phase.value})",
            cure="clear the task prepare of this VM and what follows it, which ends that first, or start a new run",
            code="being-undone",
        )
    if row.phase not in phases:
        raise PermanentError(
            f"{ctx.vm.name}: {step} cannot run while the VM is {row.phase.value}",
            cure=f"clear the task {clear} of this VM and what follows it",
            code="wrong-phase",
        )
    return row
