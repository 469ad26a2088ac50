"""A plan, its VMs and its target as tests of conditions change them."""

from __future__ import annotations

from typing import Any

from mtv.model.condition import Condition, ConditionCategory
from mtv.model.plan import NetworkTarget, Plan, PlannedVm, StorageTarget, Target, VmOptions, Wave
from mtv.model.source import Firmware, PowerState, SourceDisk, SourceNic, SourceVm
from mtv.model.target_facts import Attachment, KubeVirt, Namespace, StorageClass, TargetFacts
from mtv.validation import conditions

C, W, A = ConditionCategory.CRITICAL, ConditionCategory.WARNING, ConditionCategory.ADVISORY
MAC = "00:50:56:00:00:01"
POD, APP, FAR = (
    NetworkTarget(type="pod"),
    NetworkTarget(type="multus", name="n/app"),
    NetworkTarget(type="multus", name="far/app"),
)
STATIC = {"connectionState": "connected", "guestNetworks": [{"mac": MAC, "ip": "10.1.0.5", "origin": "manual"}]}
DYNAMIC = {"connectionState": "connected", "guestNetworks": [{"mac": MAC, "ip": "10.1.0.5", "origin": "dhcp"}]}
PRIMARY = Attachment(namespace="n", name="udn", role="primary", topology="layer2", subnets=("10.1.0.0/16",))


def disk(**changed: Any) -> SourceDisk:
    values: dict[str, Any] = {
        "id": "2000", "index": 0, "size_bytes": 1000, "bus": "scsi", "identity": "i", "generation": "g",
        "storage": "ds",
    }  # fmt: skip
    return SourceDisk(**values | changed)


def seen(name: str = "web-1", **changed: Any) -> SourceVm:
    values: dict[str, Any] = {
        "provider": "vmware",
        "id": f"vm-{name}",
        "name": name,
        "uuid": "u",
        "power": PowerState.OFF,
        "cpu_count": 1,
        "cores_per_socket": 1,
        "memory_bytes": 1000,
        "firmware": Firmware.BIOS,
        "disks": (disk(),),
        "nics": (SourceNic(index=0, network="VM Network", mac=MAC),),
        "document": {"connectionState": "connected"},
    }
    return SourceVm(**values | changed)


def document(**changed: Any) -> SourceVm:
    return seen(document=changed)


def with_disks(*rows: dict[str, Any]) -> SourceVm:
    return seen(document={"disks": list(rows)})


def target(**changed: Any) -> TargetFacts:
    values: dict[str, Any] = {
        "kubevirt": KubeVirt(is_served=True, phase="Deployed"),
        "namespace": Namespace(name="n", phase="Active"),
        "storage_classes": (StorageClass(name="c", provisioner="csi"),),
        "storage_profiles": (),
        "attachments": (Attachment(namespace="n", name="app"),),
        "machines": (),
        "machines_elsewhere": (),
        "quotas": (),
        "service_accounts": ("default",),
    }
    return TargetFacts(**values | changed)


def plan_of(*vms: PlannedVm, **changed: Any) -> Plan:
    values: dict[str, Any] = {
        "name": "p",
        "target": Target(connection="t", namespace="n"),
        "network_map": {"*": POD},
        "storage_map": {"ds": StorageTarget(storage_class="c")},
        "waves": (Wave(name="w", vms=vms or (PlannedVm(id="web-1", name="web-1"),)),),
    }
    return Plan(**values | changed)


WARM = plan_of(defaults=VmOptions(type="warm"))
TRACKED_BY_US = plan_of(defaults=VmOptions(type="warm", enable_change_tracking=True))
NO_STATIC = plan_of(defaults=VmOptions(preserve_static_ips=False))


def said(plan: Plan, *vms: SourceVm, facts: TargetFacts | None = None, **more: Any) -> tuple[Condition, ...]:
    found = {vm.id: [one for one in vms if one.name == vm.name] for vm in plan.waves[0].vms}
    return conditions(plan, plan.waves[0], found, target=facts or target(), **more)
