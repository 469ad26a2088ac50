"""Names of objects on the target: deterministic, so that a step run again finds what it made before."""

from __future__ import annotations

import hashlib
import re

MAX_LENGTH = 63
"""Longest DNS label, which pods' host names, label values and KubeVirt's VM names must be."""


def fit(name: str, *, limit: int = MAX_LENGTH) -> str:
    """Return `name` when it is at most `limit` long, else its head and a hash of the whole, so that it stays unique."""
    if len(name) <= limit:
        return name
    tail = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{name[: limit - len(tail) - 1].rstrip('-.')}-{tail}"


def disk_claim(plan: str, vm: str, index: int) -> str:
    """Return the name of the claim that receives disk `index`."""
    return fit(f"{plan}-{vm}-disk-{index}")


def work_claim(plan: str, vm: str) -> str:
    """Return the name of the VM's work claim (journal, overlay, results)."""
    return fit(f"{plan}-{vm}-work")


def pod(plan: str, vm: str, role: str, epoch: int) -> str:
    """Return the name of a mover pod; the epoch makes each attempt a pod of its own."""
    return fit(f"{plan}-{vm}-{role}-{epoch}")


def preflight(plan: str, storage_class: str, run: str) -> str:
    """Return the name of the preflight pod and claim of a storage class in a run."""
    clean = re.sub(r"[^a-z0-9-]+", "-", f"{plan}-preflight-{storage_class}-{run}".lower()).strip("-")
    return fit(clean)


def boot_proof(target_name: str) -> str:
    """Return the name of the throw-away guest that proves the boot of a VM that stays off."""
    return fit(f"{target_name}-boot-proof")
