"""Labels and annotations of every object that mtv makes on the target. Clean-up finds objects by these labels only."""

from __future__ import annotations

import hashlib
import re
from enum import StrEnum

PLAN = "mtv/plan"
WAVE = "mtv/wave"
VM = "mtv/vm"
RUN = "mtv/run"
ROLE = "mtv/role"
STORAGE_CLASS = "mtv/storage-class"
OWNED_NAMESPACE = "mtv/namespace"

DISK_SOURCE = "mtv/disk-source"
"""Annotation of a disk claim: identity of the source disk whose bytes it holds or is meant to hold."""
DISK_INDEX = "mtv/disk-index"
COPYING = "mtv/copying"
"""Annotation: generation of the source that a copy in progress reads; set before the pod may write."""
GENERATION = "mtv/generation"
"""Annotation: generation of the source whose bytes the claim is proven to hold; absent while nothing is proven."""
DIGEST = "mtv/digest"
"""Annotation: root digest of the proven copy, before conversion."""
CONVERTING = "mtv/converting"
"""Annotation: the run that sent a conversion to this claim; from then on the copy's journal says nothing about it."""
UNTOUCHED = "mtv/untouched"
"""Annotation "true": that conversion failed before it wrote anything to the disk; the proven copy is as it was."""
CONVERTED = "mtv/converted-digest"
"""Annotation: root digest after the committed conversion."""
USED = "mtv/used"
"""Annotation: the run that made a VirtualMachine of this claim, whose guest may have written what no journal knows."""
STALE = "mtv/stale"
"""Annotation "true": the source has moved on since; the bytes must be brought up to date before use."""
ONLY_COPY = "mtv/only-copy"
"""Annotation of a disk claim: the run that found its source gone. No run writes to the claim while that is there."""
ACCEPTED = "mtv/accepted"
"""Annotation of a VirtualMachine: the run that accepted it. From then on it is the VM; no run changes or removes it."""
SOURCE = "mtv/source"
"""Annotation of a Lease: identity of the source VM that is taken. `PLAN` and `VM` are annotations there, too, unchanged
in words; as labels they may be cut."""
STORE = "mtv/store"
"""Annotation of a Lease: where the store of its holder lies, for people."""
ORIGINAL_NAME = "mtv/original-name"
ORIGINAL_ID = "mtv/original-id"

_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?")


class Role(StrEnum):
    """What an object is for."""

    DISK = "disk"
    WORK = "work"
    TRANSFER = "transfer"
    CONVERT = "convert"
    PREFLIGHT = "preflight"
    INSPECT = "inspect"
    TARGET = "target"
    BOOT_PROOF = "boot-proof"


POD_ROLES = (Role.INSPECT, Role.TRANSFER, Role.CONVERT)
"""Roles of a VM's own mover pods and Secrets, which go when the VM is settled."""


def value(text: str) -> str:
    """Return `text` as a label value: unchanged when valid, else cleaned with a hash that keeps it unique."""
    if _VALUE.fullmatch(text):
        return text
    tail = hashlib.sha256(text.encode()).hexdigest()[:10]
    clean = re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._")[:52].rstrip("-._")
    return f"{clean}-{tail}" if clean else tail


def of_vm(plan: str, vm: str) -> dict[str, str]:
    """Return the labels that tie an object to a VM of a plan, whatever wave, run or role."""
    return {PLAN: value(plan), VM: value(vm)}


def of_object(*, plan: str, wave: str, vm: str, run: str, role: Role) -> dict[str, str]:
    """Return all labels of an object that a run makes for a VM."""
    return {**of_vm(plan, vm), WAVE: value(wave), RUN: value(run), ROLE: role.value}


def selector(labels: dict[str, str]) -> str:
    """Return a selector that asks for all of `labels`. Raises `ValueError` for none: it would match everything."""
    if not labels:
        raise ValueError("an empty label selector would match objects of others")
    return ",".join(f"{key}={labels[key]}" for key in sorted(labels))
