"""The objects that virt-operator would install, applied to a cluster: definitions, roles, settings, admission."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from lab.kubevirt.kube import Kube, path_of
from lab.process import wait_until

NAMESPACE = "kubevirt"
VERSION = "1.8.4"
FEATURE_GATES = ("HostDevices", "PersistentReservation")
API_SERVICE = "v1.subresources.kubevirt.io"
NODE_AGENT_ROLE = "mtv-lab-node-agent"
_PARALLEL = 4
_WEBHOOKS = (
    ("MutatingWebhookConfiguration", "virt-api-mutator"),
    ("ValidatingWebhookConfiguration", "virt-api-validator"),
)


def read_lines(file: Path) -> list[dict[str, Any]]:
    """Objects of a file with one JSON document per line."""
    return [json.loads(line) for line in file.read_text().splitlines()]


def apply_all(kube: Kube, objects: Iterable[dict[str, Any]]) -> None:
    """Apply objects that do not depend on each other, several at a time."""
    with ThreadPoolExecutor(_PARALLEL) as pool:
        for _ in pool.map(kube.apply, objects):
            pass


def install_definitions(kube: Kube, crds: list[dict[str, Any]], roles: list[dict[str, Any]]) -> None:
    """Namespace, CRDs and roles; returns when the API server serves the new kinds."""
    kube.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    apply_all(kube, [*crds, *roles, *_node_agent_rights()])
    for crd in crds:
        name = crd["metadata"]["name"]
        wait_until(lambda name=name: _is_established(kube, name), timeout_s=30, what=f"CRD {name}")  # type: ignore[misc]


def install_settings(kube: Kube, *, state_class: str | None, authority: Path) -> None:
    """The KubeVirt CR with the status that virt-operator would give it, and the components' certificate authority.

    ``state_class`` is the storage class for persistent firmware variables and TPMs; None: the cluster's default class.
    """
    configuration: dict[str, Any] = {
        # Emulation is allowed, as most machines that run a lab have no KVM for it; the launcher says which it was.
        "developerConfiguration": {"featureGates": list(FEATURE_GATES), "useEmulation": True},
    }
    if state_class is not None:
        configuration["vmStateStorageClass"] = state_class
    kube.apply(
        {
            "apiVersion": "kubevirt.io/v1",
            "kind": "KubeVirt",
            "metadata": {"name": "kubevirt", "namespace": NAMESPACE},
            "spec": {"configuration": configuration},
        }
    )
    # Without a phase the components ignore the CR; without a default architecture no instance is admitted.
    version = f"v{VERSION}"
    status = {"phase": "Deployed", "defaultArchitecture": "amd64", "observedKubeVirtVersion": version}
    status |= {"targetKubeVirtVersion": version, "operatorVersion": version}
    kube.merge(f"{path_of('KubeVirt', 'kubevirt', NAMESPACE)}/status", {"status": status})
    kube.apply(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "kubevirt-ca", "namespace": NAMESPACE},
            "data": {"ca-bundle": authority.read_text()},
        }
    )


def install_aggregation(kube: Kube, *, port: int, authority: Path) -> None:
    """``subresources.kubevirt.io`` (start, stop, restart …); returns when the aggregator reaches virt-api.

    Call it when virt-api listens: the aggregator waits longer and longer after failures. The Service is only a name
    for 127.0.0.1, so no cluster network is needed.
    """
    kube.apply(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "virt-api", "namespace": NAMESPACE},
            "spec": {"type": "ExternalName", "externalName": "localhost"},
        }
    )
    kube.apply(
        {
            "apiVersion": "apiregistration.k8s.io/v1",
            "kind": "APIService",
            "metadata": {"name": API_SERVICE},
            "spec": {
                "group": "subresources.kubevirt.io",
                "version": "v1",
                "groupPriorityMinimum": 1000,
                "versionPriority": 15,
                "caBundle": _bundle(authority),
                "service": {"namespace": NAMESPACE, "name": "virt-api", "port": port},
            },
        }
    )
    wait_until(lambda: is_aggregated(kube), timeout_s=30, what=f"APIService {API_SERVICE}")


def is_aggregated(kube: Kube) -> bool:
    """Does the API server reach virt-api?"""
    found = kube.get(path_of("APIService", API_SERVICE)) or {}
    conditions = found.get("status", {}).get("conditions") or []
    return any(c["type"] == "Available" and c["status"] == "True" for c in conditions)


def install_admission(kube: Kube, webhooks: list[dict[str, Any]], *, port: int, authority: Path) -> None:
    """virt-operator's webhook configurations, with the port of the lab's virt-api and its authority."""
    for configuration in webhooks:
        for webhook in configuration["webhooks"]:
            webhook["clientConfig"]["caBundle"] = _bundle(authority)
            webhook["clientConfig"]["service"]["port"] = port
    apply_all(kube, webhooks)


def remove_admission(kube: Kube) -> None:
    """Take away what points at virt-api, or writes to VMs and deletions of namespaces would fail without it."""
    for kind, name in _WEBHOOKS:
        kube.delete(path_of(kind, name))
    kube.delete(path_of("APIService", API_SERVICE))


def _node_agent_rights() -> list[dict[str, Any]]:
    """Beyond virt-handler: the stand-in writes the device capacity (it has no plugins) and reads volume modes."""
    api = "rbac.authorization.k8s.io"
    return [
        {
            "apiVersion": f"{api}/v1",
            "kind": "ClusterRole",
            "metadata": {"name": NODE_AGENT_ROLE},
            "rules": [
                {"apiGroups": [""], "resources": ["nodes/status"], "verbs": ["patch"]},
                {"apiGroups": [""], "resources": ["persistentvolumeclaims"], "verbs": ["get"]},
            ],
        },
        {
            "apiVersion": f"{api}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": NODE_AGENT_ROLE},
            "roleRef": {"apiGroup": api, "kind": "ClusterRole", "name": NODE_AGENT_ROLE},
            "subjects": [{"kind": "ServiceAccount", "name": "kubevirt-handler", "namespace": NAMESPACE}],
        },
    ]


def _is_established(kube: Kube, name: str) -> bool:
    found = kube.get(path_of("CustomResourceDefinition", name)) or {}
    conditions = found.get("status", {}).get("conditions") or []
    return any(c["type"] == "Established" and c["status"] == "True" for c in conditions)


def _bundle(authority: Path) -> str:
    return base64.b64encode(authority.read_bytes()).decode()
