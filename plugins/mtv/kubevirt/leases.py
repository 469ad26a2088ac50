"""One Lease on the target cluster for each source VM that some mtv has taken: what several stores agree by.

All of them lie in the namespace `mtv`, whatever the VMs' own: two plans may send one VM to two namespaces, and each mtv
must find the other's lease. That namespace is where the role's account lives, so it is there, and a right to write
leases in it gives nothing else away. A name that could be chosen would be chosen differently by two.

They do not expire. Bytes and power of a VM are not safe to take because a clock ran on while a worker was cut off.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from mtv.kubevirt import labels
from mtv.kubevirt.cluster import Cluster
from mtv.kubevirt.resources import LEASES

NAMESPACE = "mtv"
_MICRO_TIME = "%Y-%m-%dT%H:%M:%S.%fZ"


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """Who has taken a source VM: a run, for a VM of its plan, by a token that its store keeps.

    The token tells a store from its copy, which knows the same runs. `store` says to people where the store lies.
    """

    run: str
    token: str
    plan: str
    vm: str
    store: str


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """A lease as it was read: its holder, since when, and the version that a change of it has to meet."""

    name: str
    holder: Holder
    since: str
    version: str


def name_of(source: str) -> str:
    """Return the name of the lease on the source VM of this identity."""
    return f"source-{hashlib.sha256(source.encode()).hexdigest()[:40]}"


def read(cluster: Cluster, source: str) -> Lease | None:
    """Return the lease on a source VM, or None while nobody has taken it."""
    found = cluster.get(LEASES, name_of(source), NAMESPACE)
    return None if found is None else _lease(found)


def of_vm(cluster: Cluster, plan: str, vm: str) -> list[Lease]:
    """Return the leases that runs of a plan of this name, of whatever store, have on a VM of this id."""
    return [_lease(found) for found in cluster.find(LEASES, NAMESPACE, labels.of_vm(plan, vm))]


def _lease(found: Mapping[str, Any]) -> Lease:
    metadata, spec = found["metadata"], found.get("spec") or {}
    notes = metadata.get("annotations") or {}
    run, _, token = str(spec.get("holderIdentity") or "").partition("/")
    holder = Holder(
        run=run, token=token, **{key: str(notes.get(note, "")) for key, note in (("plan", labels.PLAN),
        ("vm", labels.VM), ("store", labels.STORE))}
    )  # fmt: skip
    since = str(spec.get("acquireTime") or metadata.get("creationTimestamp") or "")
    return Lease(name=metadata["name"], holder=holder, since=since, version=str(metadata["resourceVersion"]))


def take(cluster: Cluster, source: str, holder: Holder, found: Lease | None) -> None:
    """Make the lease, or hand the one that was `found` over to `holder`.

    Raises `Conflict`, or another `TemporaryError`, when somebody else was faster: read it again.
    """
    body = _body(source, holder)
    if found is None:
        cluster.ensure_namespace(NAMESPACE, for_pods=False)
        cluster.create(LEASES, body)
        return
    body["metadata"]["resourceVersion"] = found.version
    cluster.merge(LEASES, found.name, NAMESPACE, body)


def remove(cluster: Cluster, found: Lease) -> None:
    """Remove a lease, if nobody has changed it since it was read."""
    cluster.delete(LEASES, found.name, NAMESPACE, version=found.version)


def _body(source: str, holder: Holder) -> dict[str, Any]:
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {
            "name": name_of(source),
            "namespace": NAMESPACE,
            "labels": {**labels.of_vm(holder.plan, holder.vm), labels.RUN: labels.value(holder.run)},
            "annotations": {
                labels.SOURCE: source,
                labels.PLAN: holder.plan,
                labels.VM: holder.vm,
                labels.STORE: holder.store,
            },
        },
        "spec": {
            "holderIdentity": f"{holder.run}/{holder.token}",
            "acquireTime": datetime.now(UTC).strftime(_MICRO_TIME),
        },
    }
