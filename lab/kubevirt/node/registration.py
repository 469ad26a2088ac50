"""What makes a node one that KubeVirt schedules on: labels, heartbeat, device capacity."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event

from lab.kubevirt.kube import Kube, Refused, Unreachable, path_of
from lab.kubevirt.node.instance_status import timestamp

HEARTBEAT_EVERY_S = 30.0
_LABELS = {
    "kubevirt.io/schedulable": "true",
    "kubevirt.io/ksm-enabled": "false",
    "machine-type.node.kubevirt.io/q35": "true",
    "cpu-model.node.kubevirt.io/max": "true",
}
# Pods ask for these as extended resources. There is no plugin behind: the runtime gives pods what they need anyway.
_DEVICES = {f"devices.kubevirt.io/{device}": "1000" for device in ("kvm", "tun", "vhost-net")}


def register(kube: Kube, node: str) -> None:
    """Write labels, heartbeat and capacity once."""
    path = path_of("Node", node)
    kube.merge(path, {"metadata": {"labels": _LABELS, "annotations": {"kubevirt.io/heartbeat": timestamp()}}})
    kube.merge(f"{path}/status", {"status": {"capacity": _DEVICES, "allocatable": _DEVICES}})


def keep_registered(kube: Kube, node: str, stop: Event, log: Callable[[str], None]) -> None:
    """Register again and again until ``stop`` is set; an API server that is away for a while is waited for."""
    while not stop.is_set():
        try:
            register(kube, node)
        except (Refused, Unreachable) as why:
            log(f"heartbeat: {why}")
            stop.wait(2)
        else:
            stop.wait(HEARTBEAT_EVERY_S)
