"""An approval pins each VM of a wave as it was seen; what differs afterwards stops the VM, with the difference."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from mtv.inventory import drift, fingerprint
from mtv.model.condition import Condition
from mtv.model.plan import Plan, Wave
from mtv.model.source import SourceVm
from mtv.store import Approval, Store
from mtv.store.runs import hash_of
from mtv.validation.conditions import approved


def pin(store: Store, plan: Plan, wave: Wave, by: str, vms: Mapping[str, SourceVm]) -> dict[str, str]:
    """Keep that somebody approved the wave with its VMs (by id) as they are in `vms`; returns their fingerprints."""
    fingerprints = {vm_id: fingerprint(vm) for vm_id, vm in vms.items()}
    store.approve(
        plan_name=plan.name,
        wave=wave.name,
        plan_hash=hash_of(plan),
        by=by,
        vms={vm_id: (fingerprints[vm_id], msgspec.to_builtins(vm)) for vm_id, vm in vms.items()},
    )
    return fingerprints


def changes_since(approval: Approval, vm: SourceVm) -> list[str]:
    """Return what differs from what was approved, one phrase each; nothing when the fingerprint is the same."""
    if approval.fingerprint == fingerprint(vm):
        return []
    return drift(msgspec.convert(approval.document, SourceVm), vm)


def since_approval(
    store: Store, plan_name: str, plan_hash: str, wave: str, vms: Mapping[str, SourceVm]
) -> Iterable[Condition]:
    """Return what has changed since the wave was approved; nothing when nobody did.

    `plan_hash` is that of the whole plan: parts of a long wave see less of it.
    """
    approvals = store.approvals(plan_name, wave)
    for vm_id, vm in vms.items():
        if vm_id in approvals and (changes := changes_since(approvals[vm_id], vm)):
            yield approved.vm_changed(vm_id, vm.name, approvals[vm_id].by, changes)
    outdated = {approval.by for approval in approvals.values() if approval.plan_hash != plan_hash}
    for by in sorted(outdated):
        yield approved.plan_changed(wave, by)
