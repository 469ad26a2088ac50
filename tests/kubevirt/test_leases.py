"""Leases on source VMs against a real API server, by an account that has no rights but those of `deploy/rbac.yaml`."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes
import pytest
from ruamel.yaml import YAML

from mtv.kubevirt import leases
from mtv.kubevirt.cluster import Cluster, Conflict
from mtv.kubevirt.kubeconfig import Kubeconfig
from mtv.kubevirt.leases import Holder
from mtv.model.errors import TemporaryError
from mtv.steps import clusters
from tests.kubevirt.test_cluster import connection, kubeconfig

RBAC = Path(__file__).parents[2] / "deploy" / "rbac.yaml"
OURS = Holder(run="20261201-120000-abcdef", token="1" * 16, plan="first", vm="web-1", store="mtv on db.example.org")
THEIRS = Holder(
    run="20261202-120000-abcdef", token="2" * 16, plan="Their Plan!", vm="web-1", store="/state/store.sqlite"
)
SOURCE = "vsphere:dbed6e0c-bd88-4ef6-b594-21283e1c677f/vm-42"


@pytest.fixture(scope="module")
def cluster(lab: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster as somebody finds it who has followed the page on installing."""
    path = lab.endpoints("cluster")["kubeconfig"]
    api = kubernetes.config.new_client_from_config(path)
    core = kubernetes.client.CoreV1Api(api)
    namespaces = [each.metadata.name for each in core.list_namespace().items]
    for name in {leases.NAMESPACE, "finance"} - set(namespaces):
        core.create_namespace({"metadata": {"name": name}})
    for body in YAML(typ="safe").load_all(RBAC):
        kubernetes.utils.create_from_dict(api, body, namespace=body["metadata"].get("namespace", "default"), apply=True)
    token = core.create_namespaced_service_account_token("mtv", leases.NAMESPACE, {"spec": {}}).status.token
    opened = Kubeconfig(Path(path))
    try:
        server = opened.document["clusters"][0]["cluster"]
        authority = server.get("certificate-authority-data") or _encoded(server["certificate-authority"])
        folder = tmp_path_factory.mktemp("account")
        with Cluster(
            connection(kubeconfig(folder, server["server"], authority=authority, user={"token": token}))
        ) as found:
            yield found
    finally:
        opened.close()


def _encoded(path: str) -> str:
    return base64.b64encode(Path(path).read_bytes()).decode()


@pytest.mark.lab
def test_a_lease_is_taken_once_handed_over_by_who_has_read_it_last_and_removed_as_it_was_read(cluster: Cluster) -> None:
    assert leases.read(cluster, SOURCE) is None
    leases.take(cluster, SOURCE, OURS, None)
    with pytest.raises(Conflict):
        leases.take(cluster, SOURCE, THEIRS, None)
    first = leases.read(cluster, SOURCE)
    assert first is not None
    assert first.holder == OURS
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", first.since)
    leases.take(cluster, SOURCE, THEIRS, first)
    second = leases.read(cluster, SOURCE)
    assert second is not None
    assert second.holder == THEIRS
    assert leases.of_vm(cluster, THEIRS.plan, THEIRS.vm) == [second]
    assert leases.of_vm(cluster, OURS.plan, OURS.vm) == []
    with pytest.raises(TemporaryError):
        leases.take(cluster, SOURCE, OURS, first)
    with pytest.raises(TemporaryError):
        leases.remove(cluster, first)
    leases.remove(cluster, second)
    leases.remove(cluster, second)
    assert leases.read(cluster, SOURCE) is None


@pytest.mark.lab
def test_a_cluster_is_known_by_an_uid_that_the_account_may_read(cluster: Cluster) -> None:
    assert re.fullmatch(r"[0-9a-f-]{36}", clusters.uid_of(cluster))
    assert clusters.uid_of(cluster) == clusters.uid_of(cluster)
