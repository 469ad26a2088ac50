"""Values that the tests of the target share."""

from __future__ import annotations

import json
from typing import Any

from mtv.kubevirt import labels
from mtv.kubevirt.labels import Role
from mtv.kubevirt.virtual_machine import TargetVm
from mtv.model.plan import NetworkTarget
from mtv.model.source import Firmware, PowerState, SourceDisk, SourceNic, SourceVm

GIB = 1024**3
POD = NetworkTarget(type="pod")
IGNORED = NetworkTarget(type="ignored")
APP = NetworkTarget(type="multus", name="demo/app-net")


def disk(index: int = 0, **changes: Any) -> SourceDisk:
    values: dict[str, Any] = {
        "id": f"disk-{2000 + index}",
        "index": index,
        "size_bytes": GIB,
        "bus": "scsi",
        "identity": f"uuid/{2000 + index}/[ds-gold] web-1/web-1_{index}.vmdk",
        "generation": "1",
        "storage": "ds-gold",
    }
    return SourceDisk(**values | changes)


def nic(index: int = 0, **changes: Any) -> SourceNic:
    values: dict[str, Any] = {"index": index, "network": "VM Network", "mac": f"00:50:56:aa:00:0{index + 1}"}
    return SourceNic(**values | changes)


def source_vm(**changes: Any) -> SourceVm:
    values: dict[str, Any] = {
        "provider": "vsphere",
        "id": "vm-42",
        "name": "web-1",
        "uuid": "4203a1b2-0000-4000-8000-000000000001",
        "power": PowerState.ON,
        "cpu_count": 4,
        "cores_per_socket": 2,
        "memory_bytes": 2 * GIB,
        "firmware": Firmware.BIOS,
        "disks": (disk(0), disk(1)),
        "nics": (nic(0),),
    }
    return SourceVm(**values | changes)


def target_vm(vm: SourceVm, *networks: NetworkTarget, **changes: Any) -> TargetVm:
    values: dict[str, Any] = {
        "name": "web-1",
        "namespace": "demo",
        "object_labels": labels.of_object(plan="first", wave="pilot", vm="web-1", run="r1", role=Role.TARGET),
        "root_disk": vm.disks[0].id if vm.disks else "",
        "claims": {d.id: f"first-web-1-disk-{d.index}" for d in vm.disks},
        "networks": {n.index: network for n, network in zip(vm.nics, networks or (POD,) * len(vm.nics), strict=True)},
    }
    return TargetVm(**values | changes)


def kubeconfig_text(cluster: dict[str, Any], user: dict[str, str]) -> str:
    """A kubeconfig of one cluster and one user."""
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "clusters": [{"name": "c", "cluster": cluster}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "users": [{"name": "u", "user": user}],
    }
    return json.dumps(document)
