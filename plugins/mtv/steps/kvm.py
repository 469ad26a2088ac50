"""Whether the target's nodes offer KVM to pods."""

from __future__ import annotations

from mtv.kubevirt import quantities
from mtv.kubevirt.cluster import Cluster
from mtv.kubevirt.pods import KVM
from mtv.kubevirt.resources import NODES


def is_offered(cluster: Cluster) -> bool:
    """Return whether at least one node has it to give."""
    nodes = cluster.find(NODES)
    return any(quantities.whole(node.get("status", {}).get("allocatable", {}).get(KVM, "0")) > 0 for node in nodes)
