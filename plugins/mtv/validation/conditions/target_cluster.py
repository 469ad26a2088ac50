"""The target cluster: it answers, runs KubeVirt, and has the namespace, classes, networks and room that are named."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from mtv.model.condition import Condition
from mtv.model.plan import NetworkTarget, Plan
from mtv.model.target_facts import Attachment, Quota, TargetFacts, known
from mtv.validation.conditions.case import Case, advisory, critical, warning

_STATIC = "kubernetes.io/no-provisioner"
_PUBLIC = "default"
"""Namespace whose attachments every namespace may use."""
_STORAGE = "requests.storage"
_MEMORY = ("requests.memory", "limits.memory")


def conditions(plan: Plan, cases: Sequence[Case], target: TargetFacts, service_account: str) -> Iterable[Condition]:
    """Return what is wrong with the target, for the plan or for the VMs that it concerns."""
    if target.refused:
        kind, reason = ("NotValid", "NotFound") if target.is_missing else ("NotReady", "NotValid")
        yield critical(
            f"DestinationProvider{kind}",
            f"plan.target.{'not_valid' if target.is_missing else 'not_ready'}",
            reason,
            f"The target {plan.target.connection} cannot be used: {target.refused}",
            "Mend the connection that the plan names as its target.",
        )
        return
    yield from _kubevirt(plan, target)
    yield from _namespace(target, service_account)
    yield from _classes(plan, cases, target)
    yield from _attachments(plan, cases, target)
    yield from _quotas(cases, target)
    for fact, why in target.unknowns().items():
        yield advisory(
            "TargetFactUnknown",
            f"plan.target.unknown_{fact}",
            "NotKnown",
            f"The target's {fact.replace('_', ' ')} could not be read: {why}",
            "What depends on it was not checked. Grant the right to read it (deploy/rbac.yaml) to have it checked.",
        )


def _kubevirt(plan: Plan, target: TargetFacts) -> Iterable[Condition]:
    kubevirt = known(target.kubevirt)
    if kubevirt is None:
        return
    if not kubevirt.is_served:
        yield critical(
            "DestinationProviderNotReady",
            "plan.target.no_kubevirt",
            "NotFound",
            f"The target {plan.target.connection} does not serve kubevirt.io",
            "Install KubeVirt there, or point target.connection at another cluster.",
        )
    elif kubevirt.phase not in ("", "Deployed"):
        yield warning(
            "DestinationProviderNotReady",
            "plan.target.kubevirt_not_deployed",
            "NotValid",
            f"KubeVirt on {plan.target.connection} is {kubevirt.phase}, not Deployed",
            "VMs may not start there until it is.",
        )


def _namespace(target: TargetFacts, service_account: str) -> Iterable[Condition]:
    namespace = known(target.namespace)
    if namespace is None:
        return
    if namespace.phase == "Terminating":
        yield critical(
            "NamespaceNotValid",
            "plan.target.namespace_terminating",
            "NotValid",
            f"Namespace {namespace.name} is being deleted",
            "Wait until it is gone, or name another one.",
        )
    if namespace.pod_security == "restricted":
        yield warning(
            "RestrictedPodSecurity",
            "plan.target.restricted_pod_security",
            "NotValid",
            f"Namespace {namespace.name} enforces the Pod Security level restricted",
            "Pods that copy and convert satisfy it, KubeVirt's may not. Try one VM, or label the namespace baseline.",
        )
    accounts = known(target.service_accounts)
    if service_account and namespace.phase and accounts is not None and service_account not in accounts:
        yield critical(
            "ServiceAccountNotValid",
            "plan.target.no_service_account",
            "NotFound",
            f"Namespace {namespace.name} has no service account {service_account}",
            "Create it there: this installation runs its pods under it (MTV_POD_SERVICE_ACCOUNT).",
        )
    for attachment in known(target.attachments) or ():
        if attachment.namespace == namespace.name and _is_primary(attachment) and attachment.topology == "layer3":
            yield critical(
                "UnsupportedUserDefinedNetwork",
                "plan.target.layer3_network",
                "NotSupported",
                f"The primary network of namespace {namespace.name}, {attachment.name}, is of layer 3",
                "VMs need a primary network of layer 2. Name another namespace.",
            )


def _classes(plan: Plan, cases: Sequence[Case], target: TargetFacts) -> Iterable[Condition]:
    classes = known(target.storage_classes)
    if classes is None:
        return
    by_name = {entry.name: entry for entry in classes}
    cure = f"Use one of: {', '.join(sorted(by_name)) or 'none, the cluster has no StorageClass'}."
    used: set[str] = set()
    for case in cases:
        wanted = {case.storage_class(disk) for seen in case.found for disk in seen.disks} - {None, ""}
        for name in sorted(filter(None, wanted)):
            used.add(name)
            if name not in by_name:
                yield critical(
                    "DestinationStorageNotValid",
                    "plan.storage.class_missing",
                    "NotFound",
                    f"The target has no StorageClass {name}",
                    cure,
                    vms=(case.vm.id,),
                )
            elif by_name[name].provisioner == _STATIC:
                yield warning(
                    "StorageClassIsStatic",
                    "plan.storage.class_static",
                    "NotSupported",
                    f"StorageClass {name} makes no volumes by itself",
                    "Each disk needs a free PersistentVolume of its size there, and the work volume one more.",
                    vms=(case.vm.id,),
                )
    for name in sorted({entry.storage_class for entry in plan.storage_map.values()} - used - set(by_name) - {""}):
        yield warning(
            "DestinationStorageNotValid",
            "plan.storage.mapped_class_missing",
            "NotFound",
            f"storage_map names StorageClass {name}, which the target does not have",
            f"No disk of this wave goes there. {cure}",
        )


def _attachments(plan: Plan, cases: Sequence[Case], target: TargetFacts) -> Iterable[Condition]:
    attachments = known(target.attachments)
    home = plan.target.namespace
    names = None if attachments is None else {f"{one.namespace}/{one.name}" for one in attachments}
    for case in cases:
        wanted = [case.network(nic) for seen in case.found for nic in seen.nics]
        for place in sorted({_full_name(one, home) for one in wanted if one and one.type == "multus" and one.name}):
            namespace = place.partition("/")[0]
            if namespace not in (home, _PUBLIC):
                yield critical(
                    "NetMapDestinationNADNotValid",
                    "plan.network.attachment_elsewhere",
                    "NotValid",
                    f"NetworkAttachmentDefinition {place} is in another namespace",
                    f"VMs in {home} may use those of {home} and of {_PUBLIC}. Make one there.",
                    vms=(case.vm.id,),
                )
            elif names is not None and place not in names:
                yield critical(
                    "DestinationNetworkNotValid",
                    "plan.network.attachment_missing",
                    "NotFound",
                    f"The target has no NetworkAttachmentDefinition {place}",
                    f"Make it, or use one of: {', '.join(sorted(names)) or 'none, there is none to use'}.",
                    vms=(case.vm.id,),
                )


def _quotas(cases: Sequence[Case], target: TargetFacts) -> Iterable[Condition]:
    """Sizes of disks count as they are: claims are somewhat larger, so what is said here is never too much."""
    needs: Counter[str] = Counter()
    for case in cases:
        own: Counter[str] = Counter()
        for seen in case.found:
            for disk in seen.disks:
                own[_STORAGE] += disk.size_bytes
                if name := case.storage_class(disk):
                    own[f"{name}.storageclass.storage.k8s.io/{_STORAGE}"] += disk.size_bytes
            own.update(dict.fromkeys(_MEMORY, seen.memory_bytes))
        for quota in known(target.quotas) or ():
            for resource, size in _beyond(quota, own, free=False):
                # A launcher pod may ask for less memory than its guest has, if the cluster overcommits.
                make = warning if resource in _MEMORY else critical
                yield make(
                    "QuotaTooSmall",
                    "plan.target.quota_too_small",
                    "NotValid",
                    f"Quota {quota.name} allows {quota.hard[resource]} bytes of {resource}; the VM needs {size}",
                    "Raise the quota, or name another namespace.",
                    vms=(case.vm.id,),
                )
        needs.update({resource: size for resource, size in own.items() if resource not in _MEMORY})
    for quota in known(target.quotas) or ():
        for resource, size in _beyond(quota, needs, free=True):
            left = quota.hard[resource] - quota.used.get(resource, 0)
            yield warning(
                "QuotaNearlyUsed",
                "plan.target.quota_nearly_used",
                "NotValid",
                f"Quota {quota.name} has {left} bytes of {resource} left; the wave's disks need {size}",
                "Raise the quota. Disks whose claims exist already are counted twice here.",
            )


def _beyond(quota: Quota, needs: Counter[str], *, free: bool) -> Iterable[tuple[str, int]]:
    for resource, size in needs.items():
        limit = quota.hard.get(resource)
        if limit is not None and size > limit - (quota.used.get(resource, 0) if free else 0):
            yield resource, size


def _is_primary(attachment: Attachment) -> bool:
    return attachment.role.lower() == "primary"


def _full_name(network: NetworkTarget, namespace: str) -> str:
    return network.name if "/" in network.name else f"{namespace}/{network.name}"
