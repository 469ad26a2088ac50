"""What the VMs meet on the target: VMs that are there already, addresses in use, and the pod network's habits."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence

from mtv.model.condition import Condition
from mtv.model.target_facts import Machine, TargetFacts, known
from mtv.validation.conditions.addresses import on_pod_network
from mtv.validation.conditions.case import Case, critical, warning


def conditions(cases: Sequence[Case], target: TargetFacts) -> Iterable[Condition]:
    """Return what is in the way of each VM on the target."""
    for case in cases:
        yield from _migrated(case, target)
        yield from _name(case, target)
        yield from _macs(case, target)
        yield from _pod_network(case, target)


def _migrated(case: Case, target: TargetFacts) -> Iterable[Condition]:
    """A VM that is accepted on the target was migrated, whether or not the store that asks remembers it."""
    for machine in known(target.machines) or ():
        if _is_own(case, machine) and machine.accepted_by:
            yield critical(
                "VMAlreadyMigrated",
                "plan.vm.already_migrated",
                "NotUnique",
                f"It was migrated already by run {machine.accepted_by}: it is VM {machine.name} in {machine.namespace}",
                "Remove its row from the plan, or delete that machine if the VM is to be migrated again.",
                vms=(case.vm.id,),
            )


def _name(case: Case, target: TargetFacts) -> Iterable[Condition]:
    for machine in known(target.machines) or ():
        if machine.name == case.target_name and not _is_own(case, machine):
            whose = f"VM {machine.vm} of plan {machine.plan}" if machine.plan else "nobody of mtv's"
            yield critical(
                "VMAlreadyExists",
                "plan.target_name.exists",
                "NotUnique",
                f"Namespace {machine.namespace} has a VM {machine.name} already ({whose})",
                "Set target_name of the VM, or remove the one that is there.",
                vms=(case.vm.id,),
            )


def _macs(case: Case, target: TargetFacts) -> Iterable[Condition]:
    """A card's address may be in use once. What mtv made of the same source VM is a rehearsal, and only warned of."""
    cards = {
        nic.mac: seen.id
        for seen in case.found
        for nic in seen.nics
        if nic.mac and (place := case.network(nic)) is not None and place.type != "ignored"
    }
    for machine in (*(known(target.machines) or ()), *(known(target.machines_elsewhere) or ())):
        if _is_own(case, machine):
            continue
        for mac in sorted(set(machine.macs) & set(cards)):
            is_copy = bool(machine.plan) and machine.source_id == cards[mac]
            make = warning if is_copy else critical
            yield make(
                "MacConflicts",
                "plan.network.mac_copied" if is_copy else "plan.network.mac_in_use",
                "NotUnique" if is_copy else "NotValid",
                f"MAC address {mac} is used by VM {machine.namespace}/{machine.name}"
                + (f", which plan {machine.plan} made of the same source VM" if is_copy else ""),
                "Two VMs with one address on one network lose packets. Remove the other VM, or change its address.",
                vms=(case.vm.id,),
            )


def _pod_network(case: Case, target: TargetFacts) -> Iterable[Condition]:
    namespace = known(target.namespace)
    attachments = known(target.attachments)
    if namespace is None or attachments is None:
        return
    primary = [one for one in attachments if one.namespace == namespace.name and one.role.lower() == "primary"]
    for seen in case.found:
        addresses = on_pod_network(case, seen)
        if addresses and not primary and not namespace.has_primary_network:
            yield warning(
                "NetMapPreservingIPsOnPodNetwork",
                "plan.network.static_on_pod",
                "NotValid",
                f"Static addresses ({', '.join(sorted(addresses))}) go to the pod network, which gives its own",
                "The guest would not be reached there. Map its network to a NetworkAttachmentDefinition, or set "
                "preserve_static_ips: false.",
                vms=(case.vm.id,),
            )
        subnets = [subnet for one in primary for subnet in one.subnets]
        strangers = sorted(address for address in addresses if subnets and not _lies_in(address, subnets))
        if strangers:
            yield warning(
                "VMIpNotMatchingUdnSubnet",
                "plan.network.outside_subnet",
                "NotValid",
                f"{', '.join(strangers)} is outside the namespace's primary network ({', '.join(subnets)})",
                "The guest could not talk to its neighbours. Give the network that subnet, or the guest another "
                "address.",
                vms=(case.vm.id,),
            )


def _lies_in(address: str, subnets: Sequence[str]) -> bool:
    """Whether an address is in one of the subnets of its own family; without one of its family nothing is wrong."""
    try:
        own = ipaddress.ip_address(address)
        families = [net for text in subnets if (net := ipaddress.ip_network(text, strict=False)).version == own.version]
    except ValueError:
        return True  # a text that is no address says nothing about subnets
    return not families or any(own in net for net in families)


def _is_own(case: Case, machine: Machine) -> bool:
    """Whether an earlier run of the plan made this VM of the same VM."""
    return (machine.plan, machine.vm) == (case.plan.name, case.vm.id)
