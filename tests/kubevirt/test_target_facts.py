"""Facts about a target: from the lab's real API server, as an administrator and as an account that may read little."""

from __future__ import annotations

import base64
import uuid
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from lab.kubevirt.install import FEATURE_GATES
from mtv.kubevirt import labels, machines, volumes
from mtv.kubevirt.cluster import Cluster
from mtv.kubevirt.resources import ATTACHMENTS, NAMESPACES, QUOTAS, SERVICE_ACCOUNTS, STORAGE_PROFILES, Kind
from mtv.kubevirt.target_facts import facts_of, kubevirt_of, read
from mtv.kubevirt.virtual_machine import virtual_machine
from mtv.model.connection import Connection
from mtv.model.errors import PermanentError
from mtv.model.plan import Target
from mtv.model.target_facts import Attachment, Capacity, KubeVirt, Namespace, StorageProfile, TargetFacts
from tests.kubevirt.extra_kinds import extra_kinds
from tests.kubevirt.values import kubeconfig_text, source_vm, target_vm


class OneConnection:
    """Knows `cluster` only."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def get(self, conn_id: str) -> Connection:
        if conn_id != "cluster":
            raise PermanentError(f"no connection {conn_id}")
        return self._connection


def connection(kubeconfig: str | Path, conn_type: str = "kubernetes") -> Connection:
    return Connection(conn_id="cluster", conn_type=conn_type, extra={"kube_config_path": str(kubeconfig)})


def test_a_target_that_is_no_cluster_is_said_to_be_missing(tmp_path: Path) -> None:
    for known, name in ((connection(tmp_path), "other"), (connection(tmp_path, "vsphere"), "cluster")):
        facts = facts_of(OneConnection(known), Target(connection=name, namespace="n"))
        assert facts.refused
        assert facts.is_missing
    facts = facts_of(OneConnection(connection(tmp_path / "none")), Target(connection="cluster", namespace="n"))
    assert "kube_config_path" in facts.refused
    assert not facts.is_missing


def test_what_a_kubevirt_object_says_of_its_configuration() -> None:
    settings = {
        "developerConfiguration": {"featureGates": ["HostDevices", "CPUManager"]},
        "vmStateStorageClass": "state",
        "vmRolloutStrategy": "Stage",
        "liveUpdateConfiguration": {"maxGuest": "8Gi"},
    }
    found = kubevirt_of({"spec": {"configuration": settings}, "status": {"observedKubeVirtVersion": "v1.6.2"}})
    assert (found.feature_gates, found.state_class) == (("CPUManager", "HostDevices"), "state")
    assert (found.rollout, found.max_guest_bytes, found.release()) == ("Stage", 8 << 30, (1, 6))
    assert kubevirt_of({}).release() is None
    with pytest.raises(PermanentError, match="maxGuest"):
        kubevirt_of({"spec": {"configuration": {"liveUpdateConfiguration": {"maxGuest": "much"}}}})


@pytest.mark.lab
def test_facts_are_those_of_the_cluster_and_what_may_not_be_read_is_unknown(lab: Any, tmp_path: Path) -> None:
    assert lab.endpoints("kubevirt")
    kubeconfig = Path(lab.endpoints("cluster")["kubeconfig"])
    name = f"mtv-facts-{uuid.uuid4().hex[:8]}"
    with Cluster(connection(kubeconfig)) as admin:
        before = read(admin, name)
        assert before.namespace == Namespace(name=name), "there is none yet"
        admin.ensure_namespace(name)
        try:
            _furnish(admin, name)
            _see_all(read(admin, name), name)
            assert read(admin, name).default_class() == volumes.default_class(admin)
            with extra_kinds(admin):
                _furnish_extras(admin, name)
                _see_extras(read(admin, name), name)
                admin.delete(STORAGE_PROFILES, name, "")
            with Cluster(connection(_weak(admin, name, kubeconfig, tmp_path))) as weak:
                _see_little(read(weak, name))
        finally:
            machines.remove(admin, name, labels.of_vm("first", "web-1"), timeout_s=60)
            admin.delete(NAMESPACES, name, "")
    stranger = tmp_path / "stranger"
    stranger.write_text(_kubeconfig(kubeconfig, {"token": "none"}))
    facts = facts_of(OneConnection(connection(stranger)), Target(connection="cluster", namespace=name))
    assert "does not know us" in facts.refused


def _furnish(admin: Cluster, namespace: str) -> None:
    admin.merge(NAMESPACES, namespace, "", {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "baseline"}}})
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "room", "namespace": namespace},
        "spec": {"hard": {"requests.storage": "10Gi", "requests.cpu": "500m", "persistentvolumeclaims": "7"}},
    }
    admin.create(QUOTAS, quota)
    capacity = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "CSIStorageCapacity",
        "metadata": {"name": "room", "namespace": namespace},
        "storageClassName": namespace,
        "capacity": "10Gi",
        "maximumVolumeSize": "4Gi",
    }
    admin.create(Kind("apis/storage.k8s.io/v1", "csistoragecapacities"), capacity)
    vm = source_vm()
    machines.ensure(admin, virtual_machine(vm, target_vm(vm, namespace=namespace)))


def _see_all(facts: TargetFacts, namespace: str) -> None:
    assert facts.unknowns() == {}
    assert facts.namespace == Namespace(name=namespace, phase="Active", pod_security="baseline")
    assert isinstance(facts.kubevirt, KubeVirt)
    assert facts.kubevirt.is_served
    assert facts.kubevirt.phase == "Deployed"
    assert facts.kubevirt.feature_gates == tuple(sorted(FEATURE_GATES))
    assert facts.kubevirt.release() >= (1, 8)
    assert Capacity(storage_class=namespace, free_bytes=10 << 30, largest_bytes=4 << 30) in facts.capacities
    assert {one.name for one in facts.storage_classes} >= {"lab-fs", "lab-block"}
    assert all(one.provisioner for one in facts.storage_classes)
    assert {one.binding for one in facts.storage_classes} <= {"Immediate", "WaitForFirstConsumer"}
    (machine,) = facts.machines
    assert (machine.name, machine.plan, machine.vm, machine.source_id) == ("web-1", "first", "web-1", "vm-42")
    assert machine.macs == ("00:50:56:aa:00:01",)
    assert all(one.namespace != namespace for one in facts.machines_elsewhere)
    (quota,) = facts.quotas
    assert dict(quota.hard) == {"requests.storage": 10 * 1024**3, "persistentvolumeclaims": 7}
    assert "default" in facts.service_accounts


def _furnish_extras(admin: Cluster, namespace: str) -> None:
    sets = [{"accessModes": ["ReadWriteMany"], "volumeMode": "Block"}, {"accessModes": ["ReadWriteOnce"]}]
    profile = {
        "apiVersion": "cdi.kubevirt.io/v1beta1",
        "kind": "StorageProfile",
        "metadata": {"name": namespace},
        "status": {"storageClass": namespace, "claimPropertySets": sets},
    }
    admin.create(STORAGE_PROFILES, profile)
    attachment = {
        "apiVersion": "k8s.cni.cncf.io/v1",
        "kind": "NetworkAttachmentDefinition",
        "metadata": {"name": "own", "namespace": namespace},
        "spec": {"config": '{"role": "primary", "topology": "layer2", "subnets": "10.1.0.0/16/24,fd00::/48"}'},
    }
    admin.create(ATTACHMENTS, attachment)


def _see_extras(facts: TargetFacts, namespace: str) -> None:
    modes = (("Block", ("ReadWriteMany",)), ("Filesystem", ("ReadWriteOnce",)))
    assert StorageProfile(storage_class=namespace, modes=modes) in facts.storage_profiles
    subnets = ("10.1.0.0/16", "fd00::/48")
    assert facts.attachments == (
        Attachment(namespace=namespace, name="own", role="primary", topology="layer2", subnets=subnets),
    )


def _see_little(facts: TargetFacts) -> None:
    unknowns = facts.unknowns()
    assert {"namespace", "storage_classes", "capacities", "machines", "machines_elsewhere", "quotas"} <= set(unknowns)
    assert all("not allowed to" in why for why in unknowns.values())
    assert not facts.refused


def _weak(admin: Cluster, namespace: str, kubeconfig: Path, folder: Path) -> Path:
    import kubernetes

    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "weak", "namespace": namespace}}
    admin.create(SERVICE_ACCOUNTS, account)
    api = kubernetes.client.CoreV1Api(kubernetes.config.new_client_from_config(str(kubeconfig)))
    token = api.create_namespaced_service_account_token("weak", namespace, {"spec": {"expirationSeconds": 600}})
    api.api_client.close()
    path = folder / "weak"
    path.write_text(_kubeconfig(kubeconfig, {"token": token.status.token}))
    return path


def _kubeconfig(admin: Path, user: dict[str, str]) -> str:
    cluster = dict(YAML(typ="safe", pure=True).load(admin)["clusters"][0]["cluster"])
    if "certificate-authority" in cluster:
        authority = Path(cluster.pop("certificate-authority")).read_bytes()
        cluster["certificate-authority-data"] = base64.b64encode(authority).decode()
    return kubeconfig_text(cluster, user)
