"""What is known of a target cluster when a plan is validated. A fact that could not be read says why instead."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeVar

import msgspec

T = TypeVar("T")

_RELEASE = re.compile(r"v?(\d+)\.(\d+)")


class Unknown(msgspec.Struct, frozen=True):
    """A fact that could not be read, and why."""

    reason: str


class StorageClass(msgspec.Struct, frozen=True, kw_only=True):
    """A StorageClass. `binding` is Immediate or WaitForFirstConsumer.

    `is_default` says that claims without a class get it, `is_default_for_vms` that KubeVirt prefers it for them.
    """

    name: str
    provisioner: str
    binding: str = "Immediate"
    is_default: bool = False
    is_default_for_vms: bool = False
    expandable: bool = False


class StorageProfile(msgspec.Struct, frozen=True, kw_only=True):
    """What CDI knows of a StorageClass: volume modes with their access modes, the preferred ones first."""

    storage_class: str
    modes: tuple[tuple[str, tuple[str, ...]], ...] = ()


class Capacity(msgspec.Struct, frozen=True, kw_only=True):
    """Room that a CSI driver tells of for one StorageClass on some of the nodes; `largest_bytes` is of one volume."""

    storage_class: str
    free_bytes: int | None = None
    largest_bytes: int | None = None


class Attachment(msgspec.Struct, frozen=True, kw_only=True):
    """A NetworkAttachmentDefinition. `role` and `topology` are those of user-defined networks, `subnets` in CIDR."""

    namespace: str
    name: str
    role: str = ""
    topology: str = ""
    subnets: tuple[str, ...] = ()


class Namespace(msgspec.Struct, frozen=True, kw_only=True):
    """The target namespace. `phase` is Active or Terminating, empty when it does not exist.

    `pod_security` is the level it enforces (privileged, baseline, restricted), empty when it says none.
    """

    name: str
    phase: str = ""
    pod_security: str = ""
    has_primary_network: bool = False


class KubeVirt(msgspec.Struct, frozen=True, kw_only=True):
    """KubeVirt on the target. `phase` is Deployed when it is ready; empty texts where its object says nothing.

    `state_class` is the class that keeps TPMs and firmware variables, `rollout` how changes of running VMs are done
    (LiveUpdate or Stage), `max_guest_bytes` up to which the memory of a running VM may grow.
    """

    is_served: bool
    phase: str = ""
    version: str = ""
    feature_gates: tuple[str, ...] = ()
    state_class: str = ""
    rollout: str = ""
    max_guest_bytes: int | None = None

    def release(self) -> tuple[int, int] | None:
        """Return the version's first two numbers, None when it is not known."""
        match = _RELEASE.match(self.version)
        return (int(match[1]), int(match[2])) if match else None


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """A VM on the target. `plan` and `vm` are set when mtv made it, `source_id` is the source's id of what it copies.

    `accepted_by` is the run that accepted it as the migrated VM; of VMs in other namespaces only newer ones have it.

    `macs` are those of its definition and those that its running instance has, lower case.
    """

    namespace: str
    name: str
    plan: str = ""
    vm: str = ""
    source_id: str = ""
    accepted_by: str = ""
    macs: tuple[str, ...] = ()


class Quota(msgspec.Struct, frozen=True, kw_only=True):
    """A ResourceQuota of the target namespace: limits and use by resource; bytes where the resource is a size."""

    name: str
    hard: Mapping[str, int] = {}
    used: Mapping[str, int] = {}


class TargetFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The target of a plan. `machines` are those of the target namespace, `machines_elsewhere` all others.

    `attachments` are those of the target namespace and of `default`, from where every namespace may use them.
    """

    kubevirt: KubeVirt | Unknown
    namespace: Namespace | Unknown
    storage_classes: tuple[StorageClass, ...] | Unknown
    storage_profiles: tuple[StorageProfile, ...] | Unknown
    capacities: tuple[Capacity, ...] | Unknown = ()
    attachments: tuple[Attachment, ...] | Unknown
    machines: tuple[Machine, ...] | Unknown
    machines_elsewhere: tuple[Machine, ...] | Unknown
    quotas: tuple[Quota, ...] | Unknown
    service_accounts: tuple[str, ...] | Unknown
    refused: str = ""
    """Why the target cannot be used at all: the cluster refuses us, or there is no such connection."""
    is_missing: bool = False
    """`refused` because the plan names no connection to a Kubernetes cluster."""

    @classmethod
    def unknown(cls, reason: str, *, refused: bool = False, is_missing: bool = False) -> TargetFacts:
        """Return facts of a target of which nothing could be read."""
        nothing = Unknown(reason)
        return cls(
            kubevirt=nothing,
            namespace=nothing,
            storage_classes=nothing,
            storage_profiles=nothing,
            capacities=nothing,
            attachments=nothing,
            machines=nothing,
            machines_elsewhere=nothing,
            quotas=nothing,
            service_accounts=nothing,
            refused=reason if refused else "",
            is_missing=is_missing,
        )

    def default_class(self) -> str:
        """Return the class that disks get when a plan names none; "" when there is none, or it is not known."""
        classes = known(self.storage_classes) or ()
        preferred = sorted(classes, key=lambda one: not one.is_default_for_vms)
        return next((one.name for one in preferred if one.is_default or one.is_default_for_vms), "")

    def unknowns(self) -> dict[str, str]:
        """Return why facts are unknown, by their field's name."""
        values = {name: getattr(self, name) for name in self.__struct_fields__}
        return {name: value.reason for name, value in values.items() if isinstance(value, Unknown)}


def known(fact: T | Unknown) -> T | None:
    """Return a fact, or None when it is unknown."""
    return None if isinstance(fact, Unknown) else fact
