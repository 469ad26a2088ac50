"""Facts about a target cluster, read from its API. What we may not read becomes unknown with the API's words.

A cluster that does not answer is a `TemporaryError`; one that refuses us altogether leaves facts that say so.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Container, Mapping
from typing import Any, TypeVar

import msgspec

from mtv.kubevirt import labels, machines, quantities
from mtv.kubevirt.cluster import Cluster
from mtv.kubevirt.resources import (
    ALL_INSTANCES,
    ALL_MACHINES,
    ATTACHMENTS,
    CAPACITIES,
    CLAIMS,
    INSTANCES,
    KUBEVIRTS,
    NAMESPACES,
    QUOTAS,
    SERVICE_ACCOUNTS,
    STORAGE_CLASSES,
    STORAGE_PROFILES,
    VIRTUAL_MACHINES,
    Kind,
)
from mtv.kubevirt.volumes import is_default_class, is_default_class_for_vms
from mtv.model.connection import Connection, Connections
from mtv.model.errors import ConnectionRefused, PermanentError
from mtv.model.plan import Target
from mtv.model.target_facts import (
    Attachment,
    Capacity,
    KubeVirt,
    Machine,
    Namespace,
    Quota,
    StorageClass,
    StorageProfile,
    TargetFacts,
    Unknown,
)

T = TypeVar("T")

POD_SECURITY = "pod-security.kubernetes.io/enforce"
"""Label of a namespace: the Pod Security level that it enforces."""
_PRIMARY_NETWORK = "k8s.ovn.org/primary-user-defined-network"
_EVERYBODYS = "default"
"""Namespace whose NetworkAttachmentDefinitions every namespace may use."""
_COUNTED = ("storage", "memory", "persistentvolumeclaims", "virtualmachines.kubevirt.io")
"""Ends of the resources whose limits are of interest; others (CPU in thousandths, say) are not read."""


def facts_of(
    connections: Connections, target: Target, open_cluster: Callable[[Connection], Cluster] = Cluster
) -> TargetFacts:
    """Read the facts of a plan's target. Raises `TemporaryError` while the cluster does not answer."""
    try:
        connection = connections.get(target.connection)
    except PermanentError as error:
        return TargetFacts.unknown(str(error), refused=True, is_missing=True)
    if connection.conn_type != "kubernetes":
        what = f"connection {target.connection} is of type {connection.conn_type}, not kubernetes"
        return TargetFacts.unknown(what, refused=True, is_missing=True)
    try:
        with open_cluster(connection) as cluster:
            return read(cluster, target.namespace)
    except PermanentError as error:
        return TargetFacts.unknown(str(error), refused=True)


def read(cluster: Cluster, namespace: str) -> TargetFacts:
    """Read the facts of a cluster and of one of its namespaces.

    Raises `ConnectionRefused` when the cluster does not know us, `TemporaryError` when it does not answer.
    """
    here, elsewhere = _machines(cluster, namespace)
    return TargetFacts(
        kubevirt=_known(lambda: _kubevirt(cluster)),
        namespace=_known(lambda: _namespace(cluster, namespace)),
        storage_classes=_known(lambda: tuple(map(_storage_class, cluster.find(STORAGE_CLASSES)))),
        storage_profiles=_known(lambda: tuple(map(_storage_profile, _listed(cluster, STORAGE_PROFILES)))),
        capacities=_known(lambda: tuple(map(_capacity, cluster.find(CAPACITIES)))),
        attachments=_known(lambda: _attachments(cluster, namespace)),
        machines=here,
        machines_elsewhere=elsewhere,
        quotas=_known(lambda: tuple(map(_quota, cluster.find(QUOTAS, namespace)))),
        service_accounts=_known(
            lambda: tuple(item["metadata"]["name"] for item in cluster.find(SERVICE_ACCOUNTS, namespace))
        ),
    )


def _known(fact: Callable[[], T]) -> T | Unknown:
    try:
        return fact()
    except ConnectionRefused:
        raise
    except PermanentError as error:
        return Unknown(str(error))


def _listed(cluster: Cluster, kind: Kind, namespace: str = "") -> list[dict[str, Any]]:
    """Return the objects of a kind that the cluster need not have: without its CRD there are none."""
    try:
        return cluster.find(kind, namespace)
    except PermanentError as error:
        if error.code == "http-404":
            return []
        raise


def _kubevirt(cluster: Cluster) -> KubeVirt:
    if not machines.is_served(cluster):
        return KubeVirt(is_served=False)
    for item in _listed(cluster, KUBEVIRTS):
        return kubevirt_of(item)
    return KubeVirt(is_served=True)


def kubevirt_of(item: Mapping[str, Any]) -> KubeVirt:
    """Return what a KubeVirt object says of its installation. Raises `PermanentError` for a size that is none."""
    status = item.get("status", {})
    wanted = item.get("spec", {}).get("configuration") or {}
    developer, updates = wanted.get("developerConfiguration") or {}, wanted.get("liveUpdateConfiguration") or {}
    return KubeVirt(
        is_served=True,
        phase=status.get("phase", ""),
        version=status.get("observedKubeVirtVersion", ""),
        feature_gates=tuple(sorted(developer.get("featureGates") or ())),
        state_class=wanted.get("vmStateStorageClass", ""),
        rollout=wanted.get("vmRolloutStrategy", ""),
        max_guest_bytes=_size("KubeVirt's maxGuest", updates.get("maxGuest")),
    )


def _namespace(cluster: Cluster, name: str) -> Namespace:
    found = cluster.get(NAMESPACES, name)
    if found is None:
        return Namespace(name=name)
    marks = found["metadata"].get("labels") or {}
    return Namespace(
        name=name,
        phase=found.get("status", {}).get("phase", "Active"),
        pod_security=marks.get(POD_SECURITY, ""),
        has_primary_network=_PRIMARY_NETWORK in marks,
    )


def _storage_class(item: Mapping[str, Any]) -> StorageClass:
    return StorageClass(
        name=item["metadata"]["name"],
        provisioner=item.get("provisioner", ""),
        binding=item.get("volumeBindingMode") or "Immediate",
        is_default=is_default_class(item),
        is_default_for_vms=is_default_class_for_vms(item),
        expandable=bool(item.get("allowVolumeExpansion")),
    )


def _storage_profile(item: Mapping[str, Any]) -> StorageProfile:
    sets = item.get("status", {}).get("claimPropertySets") or ()
    return StorageProfile(
        storage_class=item["metadata"]["name"],
        modes=tuple((one.get("volumeMode", "Filesystem"), tuple(one.get("accessModes") or ())) for one in sets),
    )


def _capacity(item: Mapping[str, Any]) -> Capacity:
    name = item["storageClassName"]
    return Capacity(
        storage_class=name,
        free_bytes=_size(f"the capacity of {name}", item.get("capacity")),
        largest_bytes=_size(f"the largest volume of {name}", item.get("maximumVolumeSize")),
    )


def _attachments(cluster: Cluster, namespace: str) -> tuple[Attachment, ...]:
    found = []
    for place in dict.fromkeys((namespace, _EVERYBODYS)):
        found += [_attachment(place, item) for item in _listed(cluster, ATTACHMENTS, place)]
    return tuple(found)


def _attachment(namespace: str, item: Mapping[str, Any]) -> Attachment:
    try:
        config = json.loads(item.get("spec", {}).get("config") or "{}")
    except ValueError:
        config = {}  # the network is there; what its plug-in thinks of its text is shown when a VM starts
    if not isinstance(config, dict):
        config = {}
    subnets = config.get("subnets") or ""
    return Attachment(
        namespace=namespace,
        name=item["metadata"]["name"],
        role=str(config.get("role", "")),
        topology=str(config.get("topology", "")),
        # A subnet may carry the size of each node's part after a second slash: 10.0.0.0/16/24.
        subnets=tuple("/".join(part.strip().split("/")[:2]) for part in str(subnets).split(",") if part.strip()),
    )


def _machines(cluster: Cluster, namespace: str) -> tuple[tuple[Machine, ...] | Unknown, tuple[Machine, ...] | Unknown]:
    """Return the VMs of the namespace and all others: both lists at once, or the first alone if that is allowed."""
    claims = _known(lambda: cluster.find(CLAIMS, namespace, {labels.ROLE: labels.Role.DISK.value}))
    # Claims only tell of VMs that an older version accepted, and `prepare` asks again.
    owners = machines.owners_of(() if isinstance(claims, Unknown) else claims)
    everywhere = _known(
        lambda: _with_instances(_listed(cluster, ALL_MACHINES), _listed(cluster, ALL_INSTANCES), owners)
    )
    if isinstance(everywhere, Unknown):
        here = _known(
            lambda: _with_instances(
                _listed(cluster, VIRTUAL_MACHINES, namespace), _listed(cluster, INSTANCES, namespace), owners
            )
        )
        return here, everywhere
    return (
        tuple(machine for machine in everywhere if machine.namespace == namespace),
        tuple(machine for machine in everywhere if machine.namespace != namespace),
    )


def _with_instances(
    vms: list[dict[str, Any]], instances: list[dict[str, Any]], owners: Container[str]
) -> tuple[Machine, ...]:
    """Return the VMs; a running instance adds the addresses that were given to it at its start.

    An instance without a VM counts for its addresses, under its own name.
    """
    found = {_key(item): _machine(item, item["spec"].get("template", {}), owners) for item in vms}
    for item in instances:
        machine = found.get(_key(item)) or _machine(item, item, ())
        seen = {str(one["mac"]).lower() for one in item.get("status", {}).get("interfaces") or () if one.get("mac")}
        macs = (*machine.macs, *sorted(seen - set(machine.macs)))
        found[_key(item)] = msgspec.structs.replace(machine, macs=macs)
    return tuple(found[key] for key in sorted(found))


def _key(item: Mapping[str, Any]) -> tuple[str, str]:
    return item["metadata"]["namespace"], item["metadata"]["name"]


def _machine(item: Mapping[str, Any], template: Mapping[str, Any], owners: Container[str]) -> Machine:
    marks = item["metadata"].get("labels") or {}
    notes = item["metadata"].get("annotations") or {}
    interfaces = template.get("spec", {}).get("domain", {}).get("devices", {}).get("interfaces") or ()
    return Machine(
        namespace=item["metadata"]["namespace"],
        name=item["metadata"]["name"],
        plan=marks.get(labels.PLAN, ""),
        vm=marks.get(labels.VM, ""),
        source_id=notes.get(labels.ORIGINAL_ID, ""),
        accepted_by=machines.accepted_by(item, owners),
        macs=tuple(str(one["macAddress"]).lower() for one in interfaces if one.get("macAddress")),
    )


def _quota(item: Mapping[str, Any]) -> Quota:
    name, status = item["metadata"]["name"], item.get("status", {})
    hard = status.get("hard") or item.get("spec", {}).get("hard") or {}
    return Quota(name=name, hard=_amounts(name, hard), used=_amounts(name, status.get("used") or {}))


def _amounts(quota: str, values: Mapping[str, Any]) -> dict[str, int]:
    amounts = {}
    for resource, text in values.items():
        if not resource.endswith(_COUNTED):
            continue
        size = _size(f"{resource} of quota {quota}", text)
        if size is not None:
            amounts[resource] = size
    return amounts


def _size(what: str, text: object) -> int | None:
    """Return a size in bytes, None where the API says none. Raises `PermanentError` for what is none."""
    try:
        return None if text is None else quantities.whole(str(text))
    except ValueError as error:
        raise PermanentError(f"{what} is {text!r}: {error}", code="quantity-unreadable") from error
