"""Concerns that the plan accepts: for VMs that are in it."""

from __future__ import annotations

from mtv.plan.assemble import Draft
from mtv.plan.problems import did_you_mean


def check_acceptances(draft: Draft) -> None:
    """Add every VM for which a concern is accepted and which the plan does not hold."""
    entries = draft.raw.get("accept_concerns")
    ids = [str(vm.get("id")) for wave in draft.waves for vm in wave["vms"]]
    for index, entry in enumerate(entries if isinstance(entries, list) else []):
        vms = entry.get("vms") if isinstance(entry, dict) else None
        for position, vm_id in enumerate(vms if isinstance(vms, list) else []):
            if isinstance(vm_id, str) and vm_id not in ids:
                loc = ("accept_concerns", index, "vms", position)
                draft.problem(loc, f"the plan holds no VM with the id {vm_id}", did_you_mean(vm_id, ids))
