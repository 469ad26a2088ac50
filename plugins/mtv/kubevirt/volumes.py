"""Claims of a VM on the target: made once, found again by labels, marked with what their bytes are.

Annotations tell the truth about a disk claim:

- nothing but `mtv/disk-source`: nothing is proven
- `mtv/copying`: a mover may be writing a copy of that generation
- `mtv/digest` + `mtv/generation`: a proven copy of that generation; with `mtv/converted-digest` it was converted
- `mtv/converting`: a conversion was sent to it and may be writing; with `mtv/untouched` it ended before it wrote
- `mtv/used`: a VirtualMachine was made of it, whose guest may have written to it
- `mtv/stale: "true"`: the source has moved on since
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from mtv.kubevirt import labels, quantities
from mtv.kubevirt.claims import Claim, VolumeMode, manifest
from mtv.kubevirt.cluster import Cluster, Conflict
from mtv.kubevirt.labels import Role
from mtv.kubevirt.resources import CLAIMS, STORAGE_CLASSES, STORAGE_PROFILES
from mtv.model.errors import PermanentError, TemporaryError
from mtv.model.plan import StorageTarget

UNPROVEN: Mapping[str, str | None] = {
    labels.COPYING: None,
    labels.GENERATION: None,
    labels.DIGEST: None,
    labels.CONVERTING: None,
    labels.UNTOUCHED: None,
    labels.CONVERTED: None,
    labels.USED: None,
}
"""Annotations that take back everything said about a claim's bytes but that they are stale."""

_DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
_DEFAULT_CLASS_FOR_VMS = "storageclass.kubevirt.io/is-default-virt-class"


class DiskState(msgspec.Struct, frozen=True, kw_only=True):
    """What a disk claim says about its bytes; empty texts where it says nothing. `uid` is the cluster's name for it.

    `identity` is that of the source disk as the claim was made for it, and its copy's journal with it.
    """

    claim: Claim
    uid: str = ""
    identity: str = ""
    copying: str = ""
    generation: str = ""
    digest: str = ""
    converted: str = ""
    conversion_run: str = ""
    untouched: bool = False
    is_known_to_its_journal: bool = True
    stale: bool = False

    def is_proven(self, generation: str) -> bool:
        """Whether the claim is proven to hold the source's bytes of `generation`."""
        return bool(self.digest) and self.generation == generation and not self.stale

    def may_be_half_committed(self) -> bool:
        """Whether a conversion may have begun to write to the claim: then its journal must stay."""
        return bool(self.conversion_run) and not self.untouched


def require_class(cluster: Cluster, name: str) -> dict[str, Any]:
    """Return a StorageClass. Raises `PermanentError` naming those that exist."""
    found = cluster.get(STORAGE_CLASSES, name)
    if found is None:
        known = ", ".join(sorted(item["metadata"]["name"] for item in cluster.find(STORAGE_CLASSES))) or "none"
        raise PermanentError(
            f"the target has no StorageClass {name!r}", cure=f"use one of: {known}", code="storage-class-missing"
        )
    return found


def decide_modes(cluster: Cluster, target: StorageTarget) -> tuple[VolumeMode, str]:
    """Return volume and access mode: what the plan says, else the StorageProfile's first set, else Filesystem, RWO."""
    mode, access = target.volume_mode, target.access_mode
    if mode is None or access is None:
        profile = cluster.get(STORAGE_PROFILES, target.storage_class) or {}
        for properties in profile.get("status", {}).get("claimPropertySets", []):
            if mode is None or properties.get("volumeMode", "Filesystem") == mode:
                mode = mode or properties.get("volumeMode", "Filesystem")
                access = access or next(iter(properties.get("accessModes", [])), None)
                break
    return mode or "Filesystem", access or "ReadWriteOnce"


def default_class(cluster: Cluster) -> str:
    """Return the cluster's default StorageClass for VMs, else its default one, or an empty text."""
    classes = cluster.find(STORAGE_CLASSES)
    for is_default in (is_default_class_for_vms, is_default_class):
        for item in classes:
            if is_default(item):
                return str(item["metadata"]["name"])
    return ""


def is_default_class(item: Mapping[str, Any]) -> bool:
    """Whether a StorageClass is marked as the cluster's default."""
    return (item["metadata"].get("annotations") or {}).get(_DEFAULT_CLASS) == "true"


def is_default_class_for_vms(item: Mapping[str, Any]) -> bool:
    """Whether a StorageClass is marked as the one that KubeVirt prefers for VMs."""
    return (item["metadata"].get("annotations") or {}).get(_DEFAULT_CLASS_FOR_VMS) == "true"


def with_class(cluster: Cluster, target: StorageTarget) -> StorageTarget:
    """Return where a disk goes with the class decided. Raises `PermanentError` when there is no default to fall to."""
    if target.storage_class:
        return target
    default = default_class(cluster)
    if not default:
        raise PermanentError(
            "the plan names no StorageClass, and the target has no default one",
            cure="name a storage_class in storage_map, or mark one of the target's as its default",
            code="no-default-class",
        )
    return target.model_copy(update={"storage_class": default})


def ensure_claims(
    cluster: Cluster, namespace: str, claims: Sequence[Claim], *, wave: str, run: str, plan: str, vm: str
) -> None:
    """Make the claims that are missing; those found by labels are checked and kept, whatever run made them.

    Raises `PermanentError` when one that exists is too small, on another class or mode, or of another source disk.
    """
    existing = {item["metadata"]["name"]: item for item in cluster.find(CLAIMS, namespace, labels.of_vm(plan, vm))}
    for claim in claims:
        role = Role.DISK if claim.disk_id else Role.WORK
        found = existing.get(claim.name)
        if found is None:
            body = manifest(
                claim,
                namespace=namespace,
                object_labels=labels.of_object(plan=plan, wave=wave, vm=vm, run=run, role=role),
            )
            try:
                cluster.create(CLAIMS, body)
            except Conflict as error:
                raise PermanentError(
                    f"namespace {namespace} has a claim {claim.name} that this plan did not make",
                    cure="remove it, or give the VM another id",
                    code="claim-name-taken",
                ) from error
            continue
        _check(claim, found)


def disk_states(
    cluster: Cluster, namespace: str, claims: Sequence[Claim], *, plan: str, vm: str
) -> dict[str, DiskState]:
    """Return what the VM's disk claims say, by disk id; claims that are missing are absent."""
    having = {**labels.of_vm(plan, vm), labels.ROLE: Role.DISK.value}
    existing = {item["metadata"]["name"]: item for item in cluster.find(CLAIMS, namespace, having)}
    return {
        claim.disk_id: _state(claim, existing[claim.name])
        for claim in claims
        if claim.disk_id and claim.name in existing
    }


def differs(cluster: Cluster, namespace: str, claim: Claim) -> bool:
    """Whether a claim of that name exists and was made for something else: `ensure_claims` would refuse it."""
    found = cluster.get(CLAIMS, claim.name, namespace)
    return found is not None and bool(_differences(claim, found))


def mark(cluster: Cluster, namespace: str, claim_name: str, annotations: Mapping[str, str | None]) -> None:
    """Set annotations of a claim; None removes one."""
    cluster.annotate(CLAIMS, claim_name, namespace, annotations)


def is_known_to_its_journal(claim: Mapping[str, Any]) -> bool:
    """Whether nobody but the mover of its copy can have written to a disk claim: what the journal proves is there."""
    return (claim["metadata"].get("annotations") or {}).keys().isdisjoint({labels.CONVERTING, labels.USED})


def _state(claim: Claim, found: Mapping[str, Any]) -> DiskState:
    notes = found["metadata"].get("annotations") or {}
    return DiskState(
        claim=claim,
        uid=found["metadata"]["uid"],
        identity=notes.get(labels.DISK_SOURCE, ""),
        copying=notes.get(labels.COPYING, ""),
        generation=notes.get(labels.GENERATION, ""),
        digest=notes.get(labels.DIGEST, ""),
        converted=notes.get(labels.CONVERTED, ""),
        conversion_run=notes.get(labels.CONVERTING, ""),
        untouched=notes.get(labels.UNTOUCHED) == "true",
        is_known_to_its_journal=is_known_to_its_journal(found),
        stale=notes.get(labels.STALE) == "true",
    )


def _check(claim: Claim, found: Mapping[str, Any]) -> None:
    if found["metadata"].get("deletionTimestamp"):
        raise TemporaryError(f"claim {claim.name} is still being deleted", code="claim-terminating")
    if differences := _differences(claim, found):
        raise PermanentError(
            f"claim {claim.name} was made for something else: {'; '.join(differences)}",
            cure=f"if its data is not needed: kubectl delete pvc {claim.name} -n {found['metadata']['namespace']}",
            code="claim-differs",
        )


def _differences(claim: Claim, found: Mapping[str, Any]) -> list[str]:
    """What keeps an existing claim from being the one that is wanted, in words."""
    spec = found["spec"]
    notes = found["metadata"].get("annotations") or {}
    differences: list[str] = []
    if spec.get("storageClassName") != claim.storage_class:
        differences.append(f"class {spec.get('storageClassName')} instead of {claim.storage_class}")
    if spec.get("volumeMode", "Filesystem") != claim.volume_mode:
        differences.append(f"volume mode {spec.get('volumeMode')} instead of {claim.volume_mode}")
    if quantities.whole(spec["resources"]["requests"]["storage"]) < claim.size_bytes:
        differences.append(f"{spec['resources']['requests']['storage']} instead of {claim.size_bytes} bytes")
    if claim.disk_id and notes.get(labels.DISK_SOURCE) not in (claim.identity, *claim.former_identities):
        differences.append("it belongs to another source disk")
    return differences
