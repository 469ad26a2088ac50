"""Which claims a VM gets, where its cards go, which machine it becomes: decided by `prepare`, kept as evidence."""

from __future__ import annotations

from typing import Any

import msgspec

from mtv.kubevirt import claims, labels, mapping, names, volumes
from mtv.kubevirt.claims import Claim
from mtv.kubevirt.cluster import Cluster
from mtv.kubevirt.labels import Role
from mtv.kubevirt.virtual_machine import TargetVm, virtual_machine
from mtv.model.errors import PermanentError
from mtv.model.evidence import EvidenceKind
from mtv.model.source import SourceVm
from mtv.steps.context import VmContext


class Layout(msgspec.Struct, frozen=True, kw_only=True):
    """The claims of a VM: one per disk in the source's order, and the work claim."""

    disks: tuple[Claim, ...]
    work: Claim
    root: str

    def document(self) -> dict[str, Any]:
        """Return the layout as evidence VOLUMES."""
        rows = [
            {
                "disk": claim.disk_id,
                "name": claim.name,
                "class": claim.storage_class,
                "mode": claim.volume_mode,
                "access": claim.access_mode,
                "size_bytes": claim.size_bytes,
                "index": claim.index,
                "identity": claim.identity,
            }
            for claim in self.disks
        ]
        return {"claims": rows, "work": self.work.name, "work_claim": msgspec.to_builtins(self.work), "root": self.root}

    def claim(self, disk_id: str) -> Claim:
        """Return the claim of a disk. Raises `KeyError`."""
        for claim in self.disks:
            if claim.disk_id == disk_id:
                return claim
        raise KeyError(disk_id)

    def in_boot_order(self) -> tuple[Claim, ...]:
        """Return the disk claims, the root disk's first."""
        return tuple(sorted(self.disks, key=lambda claim: (claim.disk_id != self.root, claim.index)))


def decide(ctx: VmContext, cluster: Cluster, vm: SourceVm) -> Layout:
    """Decide the claims of a VM from the plan's maps and what the cluster says about its classes."""
    root = mapping.root_disk(vm, ctx.vm.root_disk)
    disks = []
    for disk in sorted(vm.disks, key=lambda disk: disk.index):
        target = volumes.with_class(cluster, mapping.storage_target(ctx.plan, ctx.vm, disk))
        mode, access = volumes.decide_modes(cluster, target)
        disks.append(
            Claim(
                name=names.disk_claim(ctx.plan.name, ctx.vm.id, disk.index),
                storage_class=target.storage_class,
                size_bytes=claims.claim_bytes(disk.size_bytes, mode),
                volume_mode=mode,
                access_mode=access,
                disk_id=disk.id,
                index=disk.index,
                identity=disk.identity,
                former_identities=disk.former_identities,
            )
        )
    needed = claims.work_bytes(vm.disks, root.id, converts=converts(ctx, vm))
    work = Claim(
        name=names.work_claim(ctx.plan.name, ctx.vm.id),
        storage_class=_work_class(ctx, cluster, disks),
        size_bytes=claims.claim_bytes(needed, "Filesystem"),
    )
    return Layout(disks=tuple(disks), work=work, root=root.id)


def converts(ctx: VmContext, vm: SourceVm) -> bool:
    """Whether the guest is converted: as the plan says, and never when it ran on KVM already."""
    return not ctx.vm.skip_guest_conversion and not vm.is_kvm_guest


def recorded(ctx: VmContext) -> Layout:
    """Return the layout that `prepare` decided in this run. Raises `PermanentError` naming `prepare`."""
    rows = ctx.store.evidence(ctx.run.id, ctx.vm.id, EvidenceKind.VOLUMES)
    if not rows:
        raise PermanentError(
            f"{ctx.vm.name}: no claims were made in this run", cure="clear the task prepare", code="not-prepared"
        )
    document = rows[-1].document
    disks = tuple(
        Claim(
            name=row["name"],
            storage_class=row["class"],
            size_bytes=row["size_bytes"],
            volume_mode=row["mode"],
            access_mode=row["access"],
            disk_id=row["disk"],
            index=row["index"],
            identity=row["identity"],
        )
        for row in document["claims"]
    )
    return Layout(disks=disks, work=msgspec.convert(document["work_claim"], Claim), root=document["root"])


def machine(ctx: VmContext, vm: SourceVm, layout: Layout) -> dict[str, Any]:
    """Return the VirtualMachine that stands in for `vm`. Raises `PermanentError` for what cannot be mapped or built."""
    target = TargetVm(
        name=ctx.vm.target_name,
        namespace=ctx.namespace,
        object_labels=object_labels(ctx, Role.TARGET),
        root_disk=layout.root,
        claims={claim.disk_id: claim.name for claim in layout.disks},
        networks={nic.index: mapping.network_target(ctx.plan, ctx.vm, nic) for nic in vm.nics},
        raw=ctx.vm.skip_guest_conversion,
    )
    return virtual_machine(vm, target)


def object_labels(ctx: VmContext, role: Role) -> dict[str, str]:
    """Return the labels of an object that this run makes for the VM."""
    return labels.of_object(plan=ctx.plan.name, wave=ctx.wave.name, vm=ctx.vm.id, run=ctx.run.id, role=role)


def of_role(ctx: VmContext, role: Role) -> dict[str, str]:
    """Return the labels by which the VM's objects of a role are found, whatever run made them."""
    return {**labels.of_vm(ctx.plan.name, ctx.vm.id), labels.ROLE: role.value}


def states(ctx: VmContext, cluster: Cluster, layout: Layout) -> dict[str, volumes.DiskState]:
    """Return what the disk claims say. Raises `PermanentError` naming `prepare` when one is missing."""
    found = volumes.disk_states(cluster, ctx.namespace, layout.disks, plan=ctx.plan.name, vm=ctx.vm.id)
    missing = [claim.name for claim in layout.disks if claim.disk_id not in found]
    if missing:
        raise PermanentError(
            f"{ctx.vm.name}: claims are gone from {ctx.namespace}: {', '.join(missing)}",
            cure="clear the task prepare of this VM and what follows it",
            code="claims-missing",
        )
    return found


def all_proven(vm: SourceVm, found: dict[str, volumes.DiskState]) -> bool:
    """Whether every disk claim is proven to hold the bytes of the source's generation as it is in `vm`."""
    return all(disk.id in found and found[disk.id].is_proven(disk.generation) for disk in vm.disks)


def _work_class(ctx: VmContext, cluster: Cluster, disks: list[Claim]) -> str:
    """The work volume is a filesystem: prefer a class that the plan uses for one, then the cluster's default."""
    for claim in disks:
        if claim.volume_mode == "Filesystem":
            return claim.storage_class
    for target in ctx.plan.storage_map.values():
        if target.storage_class and volumes.decide_modes(cluster, target)[0] == "Filesystem":
            return target.storage_class
    return volumes.default_class(cluster) or disks[0].storage_class
