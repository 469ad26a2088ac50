"""The target cluster: it answers, runs KubeVirt, and has the namespace, the account and the networks that are named."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mtv.model.condition import Condition
from mtv.model.plan import Plan
from mtv.model.target_facts import Attachment, TargetFacts, known
from mtv.validation.conditions.case import Case, advisory, critical, full_name, warning

_PUBLIC = "default"
"""Namespace whose attachments every namespace may use."""


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
    yield from _attachments(plan, cases, target)
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


def _attachments(plan: Plan, cases: Sequence[Case], target: TargetFacts) -> Iterable[Condition]:
    attachments = known(target.attachments)
    home = plan.target.namespace
    names = None if attachments is None else {f"{one.namespace}/{one.name}" for one in attachments}
    for case in cases:
        wanted = [case.network(nic) for seen in case.found for nic in seen.nics]
        for place in sorted({full_name(one, home) for one in wanted if one and one.type == "multus" and one.name}):
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


def _is_primary(attachment: Attachment) -> bool:
    return attachment.role.lower() == "primary"
