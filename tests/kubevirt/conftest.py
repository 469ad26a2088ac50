"""What tests share that run pods in the lab's cluster."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from mtv.kubevirt.cluster import Cluster
from mtv.kubevirt.resources import NAMESPACES
from mtv.model.connection import Connection


@pytest.fixture
def cluster(lab: Any) -> Iterator[Cluster]:
    """The lab's cluster, with all rights."""
    path = lab.endpoints("cluster")["kubeconfig"]
    with Cluster(Connection(conn_id="lab", conn_type="kubernetes", extra={"kube_config_path": path})) as opened:
        yield opened


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """A namespace of the test's own."""
    name = f"mtv-test-{uuid.uuid4().hex[:8]}"
    cluster.ensure_namespace(name)
    yield name
    cluster.delete(NAMESPACES, name, "")
