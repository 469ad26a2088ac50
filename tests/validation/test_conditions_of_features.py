"""What the target's storage and its KubeVirt lack, and what users were bitten by: each condition set and not set."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from mtv.model.condition import Condition
from mtv.model.plan import NetworkTarget, Plan, PlannedVm, StorageTarget, VmOptions
from mtv.model.source import PowerState, SourceNic, SourceVm
from mtv.model.target_facts import Capacity, KubeVirt, StorageClass, StorageProfile, TargetFacts, Unknown
from tests.validation.wave_values import (
    APP,
    MAC,
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

TIB = 1 << 40
DEFAULT = StorageClass(name="c", provisioner="csi", is_default=True)
CSI = StorageClass(name="c", provisioner="csi")
UNNAMED = plan_of(storage_map={"*": StorageTarget()})
BOTH_MODES = plan_of(
    storage_map={"*": StorageTarget(storage_class="c", volume_mode="Block", access_mode="ReadWriteMany")}
)
BLOCK = plan_of(storage_map={"*": StorageTarget(storage_class="c", volume_mode="Block")})
RAW = plan_of(defaults=VmOptions(skip_guest_conversion=True))


def profile(*modes: tuple[str, tuple[str, ...]], name: str = "c") -> tuple[StorageProfile, ...]:
    return (StorageProfile(storage_class=name, modes=modes),)


def virt(*gates: str, version: str = "v1.6.2", **changed: Any) -> KubeVirt:
    return KubeVirt(is_served=True, phase="Deployed", version=version, feature_gates=gates, **changed)


def with_virt(*gates: str, **changed: Any) -> TargetFacts:
    return target(kubevirt=virt(*gates, **changed), storage_classes=(DEFAULT,))


SRIOV = plan_of(network_map={"*": APP})


def passed(*, connected: bool) -> SourceVm:
    """A VM of oVirt with a card of its host's hardware."""
    nic = SourceNic(index=0, network="VM Network", mac=MAC, model="pci_passthrough", connected=connected)
    return seen(provider="ovirt", nics=(nic,))


TPM = seen(tpm=True, firmware="efi")
GROWS = document(memoryHotAddEnabled=True)

# type, id, category, (plan, vm, facts) that set it, (plan, vm, facts) that do not
OF_TARGET = [
    ("DestinationStorageNotValid", "plan.storage.no_default_class", C,
     (UNNAMED, seen(), target()), (UNNAMED, seen(), target(storage_classes=(DEFAULT,)))),
    ("DestinationStorageNotValid", "plan.storage.no_default_class", C,
     (UNNAMED, seen(), target()), (plan_of(), seen(), target())),
    ("DestinationStorageNotValid", "plan.storage.no_default_class", C,
     (UNNAMED, seen(), target()), (UNNAMED, seen(), target(storage_classes=Unknown("forbidden")))),
    ("DestinationStorageDefault", "plan.storage.default_class", A,
     (UNNAMED, seen(), target(storage_classes=(DEFAULT,))), (plan_of(), seen(), target(storage_classes=(DEFAULT,)))),
    ("StorageProfileIncomplete", "plan.storage.profile_incomplete", W,
     (plan_of(), seen(), target(storage_profiles=profile())),
     (plan_of(), seen(), target(storage_profiles=profile(("Filesystem", ("ReadWriteOnce",)))))),
    ("StorageProfileIncomplete", "plan.storage.profile_incomplete", W,
     (plan_of(), seen(), target(storage_profiles=profile(("Block", ())))),
     (BOTH_MODES, seen(), target(storage_profiles=profile()))),
    ("StorageProfileIncomplete", "plan.storage.profile_incomplete", W,
     (plan_of(), seen(), target(storage_profiles=profile(name="other"))), (plan_of(), seen(), target())),
    ("StorageModeUnknown", "plan.storage.mode_unknown", W,
     (BLOCK, seen(), target(storage_profiles=profile(("Filesystem", ("ReadWriteOnce",))))),
     (BLOCK, seen(), target(storage_profiles=profile(("Block", ("ReadWriteMany",)))))),
    ("StorageClassTooSmall", "mtv.storage.no_room_for_disk", W,
     (plan_of(), seen(), target(capacities=(Capacity(storage_class="c", largest_bytes=999, free_bytes=5000),))),
     (plan_of(), seen(), target(capacities=(Capacity(storage_class="c", largest_bytes=1000, free_bytes=5000),)))),
    ("StorageClassTooSmall", "mtv.storage.no_room_for_disk", W,
     (plan_of(), seen(), target(capacities=(Capacity(storage_class="c", free_bytes=999),))),
     (plan_of(), seen(), target(capacities=(Capacity(storage_class="d", free_bytes=999),)))),
    ("FeatureGateOff", "mtv.target.gate_vmpersistentstate", C,
     (plan_of(), TPM, with_virt()), (plan_of(), TPM, with_virt("VMPersistentState"))),
    ("FeatureGateOff", "mtv.target.gate_vmpersistentstate", C,
     (plan_of(), TPM, with_virt()), (plan_of(), TPM, with_virt(version="v1.7.0"))),
    ("FeatureGateOff", "mtv.target.gate_vmpersistentstate", C,
     (plan_of(), TPM, with_virt()), (plan_of(), seen(firmware="efi", secure_boot=True), with_virt())),
    ("FeatureGateOff", "mtv.target.gate_cpumanager", C,
     (plan_of(), seen(dedicated_cpus=True), with_virt()),
     (plan_of(), seen(dedicated_cpus=True), with_virt("CPUManager"))),
    ("FeatureGateOff", "mtv.target.gate_cpumanager", W,
     (plan_of(), document(numaNodeAffinity=["0"]), with_virt()),
     (plan_of(), document(numaNodeAffinity=[]), with_virt())),
    ("FeatureGateOff", "mtv.target.gate_hostdevices", W,
     (plan_of(), document(devices=[{"kind": "VirtualPCIPassthrough"}]), with_virt()),
     (plan_of(), document(devices=[{"kind": "VirtualPCIPassthrough"}]), with_virt("HostDevices"))),
    ("FeatureGateOff", "mtv.target.gate_hostdevices", W,
     (plan_of(), document(hostDevices=[{"capability": "pci"}]), with_virt()),
     (plan_of(), document(hostDevices=[]), with_virt())),
    ("FeatureGateOff", "mtv.target.gate_persistentreservation", W,
     (plan_of(), document(diskAttachments=[{"scsiReservation": True}]), with_virt()),
     (plan_of(), document(diskAttachments=[{"scsiReservation": False}]), with_virt())),
    ("FeatureGateOff", "mtv.target.gate_hotplugvolumes", W,
     (plan_of(), GROWS, with_virt()), (plan_of(), GROWS, with_virt("HotplugVolumes"))),
    ("FeatureGateOff", "mtv.target.gate_hotplugvolumes", W,
     (plan_of(), GROWS, with_virt()), (plan_of(), GROWS, target(kubevirt=Unknown("forbidden")))),
    ("StateStorageNotValid", "mtv.target.no_state_class", C,
     (plan_of(), TPM, target(kubevirt=virt("VMPersistentState"))),
     (plan_of(), TPM, target(kubevirt=virt("VMPersistentState"), storage_classes=(DEFAULT,)))),
    ("StateStorageNotValid", "mtv.target.no_state_class", C,
     (plan_of(), TPM, with_virt("VMPersistentState", state_class="gone")),
     (plan_of(), TPM, target(kubevirt=virt("VMPersistentState", state_class="c"), storage_classes=(CSI,)))),
    ("LiveUpdateOff", "mtv.target.no_live_update", W,
     (plan_of(), GROWS, with_virt(rollout="Stage")), (plan_of(), GROWS, with_virt(rollout="LiveUpdate"))),
    ("MemoryOverMaximum", "mtv.target.memory_over_maximum", W,
     (plan_of(), GROWS, with_virt(max_guest_bytes=999)), (plan_of(), GROWS, with_virt(max_guest_bytes=1000))),
    ("MemoryOverMaximum", "mtv.target.memory_over_maximum", W,
     (plan_of(), GROWS, with_virt(max_guest_bytes=999)), (plan_of(), document(), with_virt(max_guest_bytes=999))),
]  # fmt: skip


def cards(count: int) -> tuple[SourceNic, ...]:
    return tuple(SourceNic(index=i, network=str(i), mac="") for i in range(count))


def of_networks(*networks: str, provider: str = "openstack") -> SourceVm:
    return seen(
        provider=provider, nics=tuple(SourceNic(index=i, network=name, mac="") for i, name in enumerate(networks))
    )


MANY = plan_of(network_map={str(i): NetworkTarget(type="multus", name=f"n/net-{i}") for i in range(40)})
IGNORING = plan_of(network_map={"*": NetworkTarget(type="ignored")})


def fs(kind: str) -> SourceVm:
    return document(guestDisks=[{"diskPath": "/", "filesystemType": kind}])


def chain(depth: int) -> SourceVm:
    return with_disks({"key": 2000, "depth": depth})


def on(**changed: Any) -> SourceVm:
    return seen(power=PowerState.ON, document=changed)


OF_VMS = [
    ("BootDiskTooLarge", "mtv.disk.bios_boot_over_2tib", W,
     (plan_of(), seen(disks=(disk(size_bytes=2 * TIB + 1),))), (plan_of(), seen(disks=(disk(size_bytes=2 * TIB),)))),
    ("BootDiskTooLarge", "mtv.disk.bios_boot_over_2tib", W,
     (plan_of(), seen(disks=(disk(size_bytes=3 * TIB),))),
     (plan_of(), seen(disks=(disk(size_bytes=3 * TIB),), firmware="efi"))),
    ("BootDiskTooLarge", "mtv.disk.bios_boot_over_2tib", W,
     (plan_of(defaults=VmOptions(root_disk="1")),
      seen(disks=(disk(), disk(id="2001", index=1, size_bytes=3 * TIB)))),
     (plan_of(), seen(disks=(disk(), disk(id="2001", index=1, size_bytes=3 * TIB))))),
    ("TooManyCards", "mtv.nic.count_exceeds_limit", W, (MANY, seen(nics=cards(29))), (MANY, seen(nics=cards(28)))),
    ("TooManyCards", "mtv.nic.count_exceeds_limit", W, (MANY, seen(nics=cards(29))), (IGNORING, seen(nics=cards(29)))),
    ("CardCannotBeDown", "mtv.nic.sriov_down", W,
     (SRIOV, passed(connected=False)), (SRIOV, passed(connected=True))),
    ("CardCannotBeDown", "mtv.nic.sriov_down", W,
     (SRIOV, passed(connected=False)), (plan_of(), passed(connected=False))),
    ("CardOrderUnknown", "mtv.nic.order_unknown", W,
     (plan_of(), of_networks("a", "a", "b")), (plan_of(), of_networks("a", "a"))),
    ("CardOrderUnknown", "mtv.nic.order_unknown", W,
     (plan_of(), of_networks("a", "b", "b")), (plan_of(), of_networks("a", "b", "c"))),
    ("CardOrderUnknown", "mtv.nic.order_unknown", W,
     (plan_of(), of_networks("a", "a", "b")), (plan_of(), of_networks("a", "a", "b", provider="ovirt"))),
    ("GuestCannotBeConverted", "mtv.guest.not_convertible", W,
     (plan_of(), document(guestId="freebsd13_64Guest")), (RAW, document(guestId="freebsd13_64Guest"))),
    ("GuestCannotBeConverted", "mtv.guest.not_convertible", W,
     (plan_of(), seen(guest_os="Oracle Solaris 11 (64-bit)")), (plan_of(), seen(guest_os="CentOS 2019, MS-Windows"))),
    ("GuestCannotBeConverted", "mtv.guest.not_convertible", W,
     (plan_of(), document(guestId="os2Guest")), (plan_of(), document(guestId="windows2019srv_64Guest"))),
    ("GuestCannotBeConverted", "mtv.guest.not_convertible", W,
     (plan_of(), seen(guest_os="FreeBSD")), (plan_of(), seen(provider="ovirt", guest_os="FreeBSD"))),
    ("GuestDiskEncrypted", "mtv.guest.encrypted", C, (plan_of(), fs("crypto_LUKS")), (plan_of(), fs("ext4"))),
    ("GuestDiskEncrypted", "mtv.guest.encrypted", C,
     (plan_of(), fs("crypto_LUKS")), (plan_of(defaults=VmOptions(luks="keys")), fs("crypto_LUKS"))),
    ("GuestDiskEncrypted", "mtv.guest.encrypted", C,
     (plan_of(defaults=VmOptions(luks="keys")), fs("BitLocker")), (RAW, fs("BitLocker"))),
    ("GuestDiskMaybeEncrypted", "mtv.guest.bitlocker_possible", W,
     (plan_of(), seen(tpm=True, guest_os="Microsoft Windows 11")),
     (plan_of(), seen(tpm=True, guest_os="Debian GNU/Linux 12"))),
    ("GuestToolsOld", "mtv.vm.tools_too_old", W,
     (plan_of(), on(toolsVersionStatus2="guestToolsTooOld")), (plan_of(), on(toolsVersionStatus2="guestToolsCurrent"))),
    ("GuestToolsOld", "mtv.vm.tools_too_old", W,
     (plan_of(), on(toolsVersionStatus2="guestToolsTooOld")),
     (plan_of(), document(toolsVersionStatus2="guestToolsTooOld"))),
    ("SnapshotChainLong", "mtv.warm.snapshot_chain", W, (WARM, chain(4)), (WARM, chain(3))),
    ("SnapshotChainLong", "mtv.warm.snapshot_chain", C, (WARM, chain(31)), (plan_of(), chain(31))),
    ("VMNotReadable", "plan.vm.not_readable", C,
     (plan_of(), document(unreadable=["config.uuid"], missingPrivileges=["System.Read"])),
     (plan_of(), document(unreadable=[], missingPrivileges=[]))),
    ("VMNotReadable", "plan.vm.not_readable", W,
     (plan_of(), document(unreadable=["guest.net"], missingPrivileges=["System.Read"])), (plan_of(), document())),
    ("VMNotReadable", "plan.vm.not_readable", C,
     (plan_of(), document(unreadable=["disk_attachments"])), (plan_of(), document())),
    ("VMNotReadable", "plan.vm.not_readable", C,
     (plan_of(), document(unreadable=["volumes.v1"])), (plan_of(), document())),
]  # fmt: skip

CASES = [
    *OF_TARGET,
    *((kind, id_, category, (*set_, target()), (*unset, target())) for kind, id_, category, set_, unset in OF_VMS),
]


@pytest.mark.parametrize(
    ("kind", "id_", "category", "set_", "not_set"), CASES, ids=[f"{i}-{row[1]}" for i, row in enumerate(CASES)]
)
def test_conditions(kind: str, id_: str, category: Any, set_: Any, not_set: Any) -> None:
    found = [one for one in _said(*set_) if one.id == id_]
    assert [(one.type, one.category, one.vms) for one in found] == [(kind, category, ("web-1",))]
    assert found[0].cure
    assert id_ not in [one.id for one in _said(*not_set)]


def _said(plan: Plan, vm: SourceVm, facts: TargetFacts) -> tuple[Condition, ...]:
    return said(plan, msgspec.convert(msgspec.to_builtins(vm), SourceVm), facts=facts)


@pytest.mark.parametrize("hidden", ["config.hardware.device", "disk_attachments", "volumes.v1"])
def test_a_vm_whose_disks_may_not_be_read_is_not_said_to_have_none(hidden: str) -> None:
    found = said(plan_of(), seen(disks=(), document={"unreadable": [hidden]}))
    assert [one.type for one in found] == ["VMNotReadable"]


def test_what_may_not_be_read_is_said_with_the_privilege_and_not_taken_for_nothing() -> None:
    hidden = seen(
        disks=(),
        nics=(),
        document={"unreadable": ["config.hardware.device"], "missingPrivileges": ["System.Read"]},
    )
    (found,) = said(plan_of(), hidden)
    assert "config.hardware.device" in found.message
    assert "privilege System.Read" in found.message


TWO = (PlannedVm(id="web-1", name="web-1"), PlannedVm(id="db-1", name="db-1"))
STATIC = {"guestNetworks": [{"mac": MAC, "ip": "10.1.0.5", "origin": "manual"}]}


def two(
    document: dict[str, Any] | None = None, macs: tuple[str, str] = (MAC, "00:50:56:00:00:02")
) -> tuple[SourceVm, SourceVm]:
    def one(name: str, mac: str) -> SourceVm:
        rows = [{**row, "mac": mac} for row in (document or {}).get("guestNetworks", ())]
        nic = SourceNic(index=0, network="VM Network", mac=mac)
        return seen(name, nics=(nic,), document={"guestNetworks": rows})

    return one("web-1", macs[0]), one("db-1", macs[1])


def test_one_mac_address_on_two_vms_of_a_wave_stops_both_unless_they_never_meet() -> None:
    same = (MAC, MAC)
    found = [one for one in said(plan_of(*TWO), *two(macs=same)) if one.type == "MacConflicts"]
    assert [(one.id, one.category, one.vms) for one in found] == [("mtv.wave.mac_twice", C, ("web-1", "db-1"))]
    apart = plan_of(TWO[0], PlannedVm(id="db-1", name="db-1", network="n/app"))
    ignored = plan_of(TWO[0], PlannedVm(id="db-1", name="db-1", network="ignored"))
    for plan, vms in ((plan_of(*TWO), two()), (apart, two(macs=same)), (ignored, two(macs=same))):
        assert "MacConflicts" not in [one.type for one in said(plan, *vms)]


def test_one_ip_address_on_two_vms_of_a_wave_is_told_where_both_would_keep_it() -> None:
    together = plan_of(*TWO, network_map={"*": APP})
    found = [one for one in said(together, *two(STATIC)) if one.type == "IpConflicts"]
    assert [(one.id, one.category, one.vms) for one in found] == [("mtv.wave.ip_twice", W, ("web-1", "db-1"))]
    own = {"guestNetworks": [{"ip": "fe80::1", "origin": "linklayer"}, {"ip": "", "origin": ""}]}
    keeps_none = plan_of(*TWO, network_map={"*": APP}, defaults=VmOptions(preserve_static_ips=False))
    for plan, document_ in ((plan_of(*TWO), STATIC), (together, own), (keeps_none, STATIC)):
        assert "IpConflicts" not in [one.type for one in said(plan, *two(document_))]


def test_room_for_the_whole_wave_is_summed_up_over_segments() -> None:
    def facts(*free: int) -> TargetFacts:
        return target(capacities=tuple(Capacity(storage_class="c", free_bytes=size) for size in free))

    plan = plan_of(*TWO)
    (found,) = (one for one in said(plan, *two(), facts=facts(1000, 999)) if one.type == "StorageClassNearlyFull")
    assert (found.id, found.category, found.vms) == ("mtv.storage.no_room_for_wave", W, ())
    assert "1999 bytes free" in found.message
    assert "StorageClassNearlyFull" not in [one.type for one in said(plan, *two(), facts=facts(1000, 1000))]


def test_the_class_for_vms_goes_before_the_default_one() -> None:
    classes = (DEFAULT, StorageClass(name="virt", provisioner="csi", is_default_for_vms=True))
    assert target(storage_classes=classes).default_class() == "virt"
    assert target(storage_classes=(CSI,)).default_class() == ""
    assert target(storage_classes=Unknown("forbidden")).default_class() == ""
