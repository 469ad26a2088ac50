"""Every condition of a plan, set and not set, with its category, reason and VMs."""

from __future__ import annotations

from typing import Any

import pytest

from mtv.model.concern import Category, Concern
from mtv.model.plan import Plan, PlannedVm, StorageTarget
from mtv.model.source import PowerState, SourceNic, SourceVm
from mtv.model.target_facts import (
    Attachment,
    KubeVirt,
    Machine,
    Namespace,
    Quota,
    StorageClass,
    TargetFacts,
    Unknown,
)
from mtv.validation import for_plan, for_vm
from tests.validation.wave_values import (
    APP,
    DYNAMIC,
    FAR,
    MAC,
    NO_STATIC,
    PRIMARY,
    STATIC,
    TRACKED_BY_US,
    WARM,
    A,
    C,
    W,
    disk,
    document,
    plan_of,
    said,
    seen,
    target,
    with_disks,
)


def test_a_plan_that_fits_source_and_target_has_no_conditions() -> None:
    assert said(plan_of(), seen()) == ()


OF_VMS = [
    ("VMNotFound", C, "NotFound", (plan_of(),), (plan_of(), seen())),
    ("VMRefNotValid", C, "Ambiguous", (plan_of(), seen(), seen(id="vm-2")), (plan_of(), seen())),
    ("VMMigrationTypeUnsupported", C, "NotSupported", (plan_of(), seen(is_template=True)), (plan_of(), seen())),
    ("VMPowerStateUnsupported", C, "NotSupported", (plan_of(), seen(power=PowerState.SUSPENDED)), (plan_of(), seen())),
    ("VMNotConnected", C, "NotValid", (plan_of(), document(connectionState="orphaned")), (plan_of(), document())),
    ("VMHasNoDisks", C, "NotFound", (plan_of(), seen(disks=())), (plan_of(), seen())),
    ("InvalidDiskSizes", C, "NotValid", (plan_of(), seen(disks=(disk(size_bytes=0),))), (plan_of(), seen())),
    ("TargetNameNotValid", W, "NotValid",
     (plan_of(PlannedVm(id="web-1", name="Web_1")), seen("Web_1")),
     (plan_of(PlannedVm(id="web-1", name="Web_1", target_name="web")), seen("Web_1"))),
    ("HostNotReady", W, "InMaintenanceMode",
     (plan_of(), document(host={"name": "h", "inMaintenance": True})),
     (plan_of(), document(host={"name": "h", "inMaintenance": False}))),
    ("GuestToolsIssue", W, "NotValid",
     (plan_of(), seen(power=PowerState.ON, document={"toolsRunningStatus": "guestToolsNotRunning"})),
     (plan_of(), seen(power=PowerState.ON, document={"toolsRunningStatus": "guestToolsRunning"}))),
    ("GuestToolsIssue", W, "NotValid",
     (plan_of(), seen(power=PowerState.ON, document={"toolsRunningStatus": "guestToolsNotRunning"})),
     (plan_of(), seen(power=PowerState.ON, document={"toolsRunningStatus": "guestToolsExecutingScripts"}))),
    ("UnsupportedOVFExportSource", W, "NotValid",
     (plan_of(), document(ovaSource="VirtualBox")), (plan_of(), document(ovaSource="VMware"))),
    ("VMNetworksNotMapped", C, "NotValid", (plan_of(network_map={}), seen()), (plan_of(), seen())),
    ("VMStorageNotMapped", C, "NotValid", (plan_of(), seen(disks=(disk(storage="x"),))), (plan_of(), seen())),
    ("VMMultiplePodNetworkMappings", C, "NotValid",
     (plan_of(), seen(nics=tuple(SourceNic(index=i, network="a", mac="") for i in (0, 1)))), (plan_of(), seen())),
    ("RDMDiskWarning", W, "NotSupported",
     (plan_of(), with_disks({"file": "a", "rdm": True})), (plan_of(), with_disks({"file": "a", "rdm": False}))),
    ("RDMDiskWarning", W, "NotSupported",
     (WARM, with_disks({"file": "a", "rdm": True, "physicalMode": True})),
     (WARM, with_disks({"file": "a", "rdm": True, "physicalMode": False}))),
    ("VMStorageNotSupported", C, "NotSupported",
     (plan_of(), with_disks({"file": "a", "physicalMode": True})),
     (plan_of(), with_disks({"file": "a", "physicalMode": False}))),
    ("VMStorageNotSupported", C, "NotSupported",
     (plan_of(), with_disks({"file": "a", "encrypted": True})), (plan_of(), with_disks({"encrypted": False}, {}))),
    ("VMStorageNotSupported", C, "NotSupported",
     (plan_of(), document(volumes=[{"id": "v", "encrypted": True}])),
     (plan_of(), document(volumes=[{"id": "v", "encrypted": None}]))),
    ("VMStorageNotSupported", C, "NotSupported",
     (plan_of(), seen(disks=(disk(locator={"kind": "image", "image": "i"}),))),
     (plan_of(), seen(disks=(disk(locator={"kind": "volume", "volume": "v"}),)))),
    ("VMStorageNotSupported", C, "NotSupported",
     (plan_of(), document(flavor={"ephemeral": 100})), (plan_of(), document(flavor={"ephemeral": 0}))),
    ("DeactivatedDisk", C, "NotSupported",
     (plan_of(), document(diskAttachments=[{"active": True}, {"active": False, "disk": {"name": "clone"}}])),
     (plan_of(), document(diskAttachments=[{"active": True, "disk": {"name": "root"}}, {}]))),
    ("SwapDiskLeftOut", W, "NotSupported",
     (plan_of(), document(flavor={"swap": 512})), (plan_of(), document(flavor={"swap": ""}))),
    ("SwapDiskLeftOut", W, "NotSupported",
     (plan_of(), document(flavor={"swap": 512})), (plan_of(), document(flavor={"swap": 0}))),
    ("IndependentDiskWarning", W, "NotSupported",
     (plan_of(), with_disks({"mode": "independent_persistent"})), (plan_of(), with_disks({"mode": "persistent"}))),
    ("WarmMigrationNotReady", C, "NotSupported", (WARM, seen(provider="ova")), (plan_of(), seen(provider="ova"))),
    ("WarmMigrationNotReady", C, "NotSupported", (WARM, seen(provider="openstack")), (WARM, seen(provider="ovirt"))),
    ("VMMissingChangedBlockTracking", C, "MissingChangedBlockTracking",
     (WARM, document(changeTrackingEnabled=False)), (WARM, document(changeTrackingEnabled=True))),
    ("VMMissingChangedBlockTracking", C, "MissingChangedBlockTracking",
     (WARM, with_disks({"changeTrackingEnabled": False})), (TRACKED_BY_US, document(changeTrackingEnabled=False))),
    ("VMHasSnapshots", C, "NotValid",
     (WARM, document(snapshot={"id": "s-1"})), (plan_of(), document(snapshot={"id": "s-1"}))),
    ("VMHasSnapshots", C, "NotValid",
     (WARM, seen(provider="ovirt", document={"snapshots": [{"type": "regular"}]})),
     (WARM, seen(provider="ovirt", document={"snapshots": [{"type": "active"}]}))),
    ("VMConsolidationNeeded", W, "ConsolidationNeeded",
     (WARM, document(consolidationNeeded=True)), (plan_of(), document(consolidationNeeded=True))),
    ("VMMissingGuestIPs", W, "MissingGuestInformation",
     (plan_of(), seen(power=PowerState.ON, document={"guestNetworks": []})),
     (NO_STATIC, seen(power=PowerState.ON, document={"guestNetworks": []}))),
    ("NetMapPreservingIPsOnPodNetwork", W, "NotValid",
     (plan_of(), seen(document=STATIC)), (plan_of(), seen(document=DYNAMIC))),
    ("NetMapPreservingIPsOnPodNetwork", W, "NotValid",
     (plan_of(), seen(document=STATIC)), (NO_STATIC, seen(document=STATIC))),
    ("SharedDisks", C, "NotSupported", (WARM, seen(disks=(disk(shared=True),))), (WARM, seen())),
    ("SharedWarnDisks", W, "NotValid", (plan_of(), seen(disks=(disk(shared=True),))), (plan_of(), seen())),
    ("NetMapDestinationNADNotValid", C, "NotValid",
     (plan_of(network_map={"*": FAR}), seen()), (plan_of(network_map={"*": APP}), seen())),
    ("DestinationStorageNotValid", C, "NotFound",
     (plan_of(storage_map={"*": StorageTarget(storage_class="no")}), seen()), (plan_of(), seen())),
]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "category", "reason", "set_", "not_set"), OF_VMS, ids=[f"{i}-{row[0]}" for i, row in enumerate(OF_VMS)]
)
def test_conditions_of_vms(kind: str, category: Any, reason: str, set_: Any, not_set: Any) -> None:
    found = [c for c in said(*set_) if c.type == kind]
    assert [(c.category, c.reason, c.vms) for c in found] == [(category, reason, ("web-1",))]
    assert found[0].cure
    assert kind not in [c.type for c in said(*not_set)]


OTHER = Machine(namespace="n", name="other", macs=(MAC,))
COPY = Machine(namespace="far", name="web", plan="q", vm="web-1", source_id="vm-web-1", macs=(MAC,))
OWN = Machine(namespace="n", name="web-1", plan="p", vm="web-1", macs=(MAC,))
MIGRATED = Machine(namespace="n", name="web-1", plan="p", vm="web-1", accepted_by="r1", macs=(MAC,))
TAKEN = Machine(namespace="n", name="web-1")
QUOTA = "requests.storage"

OF_TARGET = [
    ("DestinationProviderNotValid", C, "NotFound", (), plan_of(), seen(),
     TargetFacts.unknown("no connection", refused=True, is_missing=True), target()),
    ("DestinationProviderNotReady", C, "NotValid", (), plan_of(), seen(),
     TargetFacts.unknown("unauthorized", refused=True), target()),
    ("DestinationProviderNotReady", C, "NotFound", (), plan_of(), seen(),
     target(kubevirt=KubeVirt(is_served=False)), target(kubevirt=KubeVirt(is_served=True))),
    ("DestinationProviderNotReady", W, "NotValid", (), plan_of(), seen(),
     target(kubevirt=KubeVirt(is_served=True, phase="Deploying")), target()),
    ("NamespaceNotValid", C, "NotValid", (), plan_of(), seen(),
     target(namespace=Namespace(name="n", phase="Terminating")), target(namespace=Namespace(name="n"))),
    ("RestrictedPodSecurity", W, "NotValid", (), plan_of(), seen(),
     target(namespace=Namespace(name="n", phase="Active", pod_security="restricted")),
     target(namespace=Namespace(name="n", phase="Active", pod_security="baseline"))),
    ("UnsupportedUserDefinedNetwork", C, "NotSupported", (), plan_of(), seen(),
     target(attachments=(Attachment(namespace="n", name="u", role="primary", topology="layer3"),)),
     target(attachments=(PRIMARY,))),
    ("VMIpNotMatchingUdnSubnet", W, "NotValid", ("web-1",), plan_of(),
     seen(document={"guestNetworks": [{"mac": MAC, "ip": "10.2.0.5", "origin": "manual"}]}),
     target(attachments=(PRIMARY,)), target()),
    ("NetMapPreservingIPsOnPodNetwork", W, "NotValid", ("web-1",), plan_of(), seen(document=STATIC),
     target(), target(attachments=(PRIMARY,))),
    ("DestinationNetworkNotValid", C, "NotFound", ("web-1",), plan_of(network_map={"*": APP}), seen(),
     target(attachments=()), target()),
    ("DestinationNetworkNotValid", C, "NotFound", ("web-1",), plan_of(network_map={"*": APP}), seen(),
     target(attachments=()), target(attachments=Unknown("forbidden"))),
    ("DestinationStorageNotValid", C, "NotFound", ("web-1",), plan_of(), seen(),
     target(storage_classes=()), target(storage_classes=Unknown("forbidden"))),
    ("DestinationStorageNotValid", W, "NotFound", (),
     plan_of(storage_map={"ds": StorageTarget(storage_class="c"), "y": StorageTarget(storage_class="no")}), seen(),
     target(), target(storage_classes=tuple(StorageClass(name=n, provisioner="csi") for n in ("c", "no")))),
    ("StorageClassIsStatic", W, "NotSupported", ("web-1",), plan_of(), seen(),
     target(storage_classes=(StorageClass(name="c", provisioner="kubernetes.io/no-provisioner"),)), target()),
    ("VMAlreadyExists", C, "NotUnique", ("web-1",), plan_of(), seen(),
     target(machines=(TAKEN,)), target(machines=(OWN,))),
    ("VMAlreadyMigrated", C, "NotUnique", ("web-1",), plan_of(), seen(),
     target(machines=(MIGRATED,)), target(machines=(OWN,))),
    ("MacConflicts", C, "NotValid", ("web-1",), plan_of(), seen(), target(machines=(OTHER,)), target(machines=(OWN,))),
    ("MacConflicts", W, "NotUnique", ("web-1",), plan_of(), seen(), target(machines_elsewhere=(COPY,)), target()),
    ("QuotaTooSmall", C, "NotValid", ("web-1",), plan_of(), seen(),
     target(quotas=(Quota(name="q", hard={QUOTA: 999}),)), target(quotas=(Quota(name="q", hard={QUOTA: 1000}),))),
    ("QuotaTooSmall", C, "NotValid", ("web-1",), plan_of(), seen(),
     target(quotas=(Quota(name="q", hard={f"c.storageclass.storage.k8s.io/{QUOTA}": 999}),)),
     target(quotas=(Quota(name="q", hard={f"d.storageclass.storage.k8s.io/{QUOTA}": 999}),))),
    ("QuotaTooSmall", W, "NotValid", ("web-1",), plan_of(), seen(),
     target(quotas=(Quota(name="q", hard={"limits.memory": 999}),)),
     target(quotas=(Quota(name="q", hard={"limits.memory": 1000}),))),
    ("QuotaNearlyUsed", W, "NotValid", (), plan_of(), seen(),
     target(quotas=(Quota(name="q", hard={QUOTA: 1500}, used={QUOTA: 501}),)),
     target(quotas=(Quota(name="q", hard={QUOTA: 1500}, used={QUOTA: 500}),))),
    ("TargetFactUnknown", A, "NotKnown", (), plan_of(), seen(), target(quotas=Unknown("forbidden")), target()),
]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "category", "reason", "vms", "plan", "vm", "set_", "not_set"),
    OF_TARGET,
    ids=[f"{i}-{row[0]}" for i, row in enumerate(OF_TARGET)],
)
def test_conditions_of_the_target(
    kind: str, category: Any, reason: str, vms: Any, plan: Plan, vm: SourceVm, set_: TargetFacts, not_set: TargetFacts
) -> None:
    found = [c for c in said(plan, vm, facts=set_) if c.type == kind]
    assert [(c.category, c.reason, c.vms) for c in found] == [(category, reason, vms)]
    assert kind not in [c.type for c in said(plan, vm, facts=not_set)]


def test_a_service_account_that_is_missing_from_the_namespace_stops_the_plan() -> None:
    (found,) = said(plan_of(), seen(), service_account="mover")
    assert (found.type, found.category, found.reason, found.vms) == ("ServiceAccountNotValid", C, "NotFound", ())
    assert said(plan_of(), seen(), service_account="default") == ()
    absent = target(namespace=Namespace(name="n"), service_accounts=())
    assert said(plan_of(), seen(), facts=absent, service_account="mover") == (), "it is made with its namespace"


def test_a_disk_shared_with_a_running_vm_stops_the_one_that_would_be_copied() -> None:
    plan = plan_of(PlannedVm(id="web-1", name="web-1"), PlannedVm(id="db-1", name="db-1"))
    nics = {"nics": ()}
    on = seen("db-1", disks=(disk(shared=True),), power=PowerState.ON, **nics)
    off = seen("db-1", disks=(disk(shared=True),), **nics)
    mine = seen(disks=(disk(shared=True),), **nics)
    assert [(c.type, c.category, c.vms) for c in said(plan, mine, on)] == [("SharedDisks", C, ("web-1",))]
    assert said(plan, mine, off) == ()


def test_a_condition_that_is_the_same_for_several_vms_is_one_and_names_them() -> None:
    plan = plan_of(PlannedVm(id="web-1", name="web-1"), PlannedVm(id="db-1", name="db-1"), network_map={})
    found = [c for c in said(plan, seen(), seen("db-1")) if c.type == "VMNetworksNotMapped"]
    assert [c.vms for c in found] == [("web-1", "db-1")]


def test_what_rules_call_critical_is_a_condition_and_not_told_twice() -> None:
    concern = Concern(id="r.x", category=Category.CRITICAL, label="l", assessment="a")
    found = said(plan_of(), seen(), concerns={"web-1": [concern]})
    assert [(c.type, c.vms) for c in found] == [("VMCriticalConcerns", ("web-1",))]
    assert for_vm(found, "web-1") == []
    harmless = Concern(id="r.y", category=Category.WARNING, label="l", assessment="a")
    assert said(plan_of(), seen(), concerns={"web-1": [harmless]}) == ()


def test_what_is_critical_about_the_plan_blocks_each_vm_and_its_warnings_do_not() -> None:
    gone = said(plan_of(), seen(), facts=target(namespace=Namespace(name="n", phase="Terminating")))
    assert [concern.category for concern in for_vm(gone, "web-1")] == [Category.CRITICAL]
    strict = said(plan_of(), seen(), facts=target(namespace=Namespace(name="n", phase="A", pod_security="restricted")))
    assert for_vm(strict, "web-1") == []
    assert [condition.type for condition in for_plan(strict)] == ["RestrictedPodSecurity"]
