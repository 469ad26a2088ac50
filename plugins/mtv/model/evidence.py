"""Evidence: what was seen, by which step, kept for ever. The report is a reading of it and of nothing else."""

from __future__ import annotations

from enum import StrEnum


class EvidenceKind(StrEnum):
    """What a piece of evidence is about. The document of each kind is the named wire type as JSON."""

    SOURCE = "source"  # SourceVm as seen when the run began
    CONCERNS = "concerns"  # {"concerns": [Concern, …], "rules_version": v}
    TAKEN = "taken"  # {"source": identity, "cluster": uid, "token": on the lease, "by": who has it instead}
    POWER = "power"  # {"before": PowerState, "method": "guest shutdown|power off|already off", "seconds": s}
    VOLUMES = "volumes"  # {"claims": [{"disk": id, "name": n, "class": c, "mode": m, "size_bytes": b}], "work": name}
    GUEST = "guest"  # what the conversion is asked for: {"nics": [ConvertNic, …], "scripts": {name: sha256}, "luks": …}
    PREFLIGHT = "preflight"  # PreflightResult
    TRANSFER = "transfer"  # TransferResult
    CONVERSION = "conversion"  # ConvertResult
    TARGET_VM = "target_vm"  # {"name": n, "namespace": ns, "uid": u, "run_strategy": "Always|Halted"},
    #                           and "accepted": true once the run has accepted it
    BOOT = "boot"  # {"proven": bool, "how": "console marker|guest agent", "marker": line, "lines": [...], "seconds": s}
    FAILURE = "failure"  # Failure, with the step that failed
    SETTLED = "settled"  # {"outcome": "migrated|rolled back|held|blocked|not touched|target gone|source gone",
    #                       "removed": [...], "left": [copies that a source still has], "source_power": PowerState}
    BY_HAND = "by_hand"  # {"what": "run closed|VM let go", "by": who, "reason": why, …}: `mtv runs close` and `forget`


class VmPhase(StrEnum):
    """Where a VM of a plan stands; the store's compare-and-set on this is its only lock."""

    PENDING = "pending"
    BLOCKED = "blocked"
    PREPARING = "preparing"
    TRANSFERRING = "transferring"
    TRANSFERRED = "transferred"
    CONVERTING = "converting"
    CONVERTED = "converted"
    CREATING = "creating"
    CREATED = "created"
    VERIFIED = "verified"
    ACCEPTING = "accepting"  # settle has decided, and nothing decides anew: the target becomes the VM …
    ROLLING_BACK = "rolling back"  # … or all is undone …
    HOLDING = "holding"  # … or undone on the target alone
    MIGRATED = "migrated"
    FAILED = "failed"


DECIDED = frozenset({VmPhase.ACCEPTING, VmPhase.ROLLING_BACK, VmPhase.HOLDING})
"""Phases that a VM leaves only by being let go: whatever else a step that still runs wants of it comes too late."""
COPY_KEPT = "the claims hold a proven copy of the source as it is"
"""Why `transfer` was skipped: the copy of an earlier run was kept and is used."""
CONVERSION_KEPT = "the claims are converted already"
"""Why `convert` was skipped: the conversion of an earlier run was kept and is used."""
