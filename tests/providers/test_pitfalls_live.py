"""What users were bitten by is seen in documents that our providers make of real answers, not only in made-up ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from ovirtsdk4 import types
from pyVmomi import vim

from lab.ovirt.estate import Estate
from lab.ovirt.sample import add_vm, data_centre, disk_with, nic
from mtv.model.connection import Connection
from mtv.model.plan import NetworkTarget, Plan, PlannedVm, StorageTarget, VmOptions
from mtv.model.source import SourceVm
from mtv.model.target_facts import Capacity, KubeVirt, Quota, StorageClass, TargetFacts
from mtv.providers.registry import open_provider
from mtv.providers.vmware.build import drafts_of, finish
from mtv.providers.vmware.collect import Found
from mtv.providers.vmware.surroundings import Surroundings
from mtv.validation import evaluate, load_rules
from mtv.validation.firing import firings
from tests.providers import ovirt_lab, vsphere_lab
from tests.providers.rule_attributes import condition_paths, values_at
from tests.validation.wave_values import APP, POD, plan_of, said, target

RULES = Path(__file__).parents[2] / "include" / "validation_rules"
GIB = 1 << 30
SAME_MAC, SAME_IP = "00:50:56:00:09:09", "10.9.0.9"
NO_GATES = KubeVirt(is_served=True, phase="Deployed", version="v1.6.2", max_guest_bytes=GIB)


def _vm(name: str, **options: Any) -> dict[str, Any]:
    return vsphere_lab.vm(name, **{"MemoryMB": 2048, "NICs": [{"Network": "VM Network"}], **options})


@pytest.fixture(scope="module")
def vsphere(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, SourceVm]:
    """VMs of the lab's vCenter by name, as the provider reads them."""
    card = {"Network": "VM Network", "MAC": SAME_MAC, "IPs": [SAME_IP], "Origin": "manual"}
    vms = [
        _vm("large-1", Disks=[{"SizeMB": 2 * 1024 * 1024 + 1}]),
        _vm("same-1", PowerOn=True, NICs=[card]),
        _vm("same-2", PowerOn=True, NICs=[card]),
        _vm("bsd-1", GuestID="freebsd13_64Guest", GuestName="FreeBSD 13 (64-bit)"),
        _vm("windows-1", GuestID="windows2019srv_64Guest", GuestName="Windows Server 2019", TPM=True,
            Firmware="efi", SecureBoot=True),
        _vm("locked-1", PowerOn=True, FileSystems=[{"Path": "/", "Type": "crypto_LUKS", "Disk": 2000}]),
        _vm("tools-1", PowerOn=True, ToolsVersion="guestToolsTooOld"),
        _vm("grows-1"),
        _vm("sealed-1"),
        _vm("physical-1", Disks=[{"SizeMB": 1, "RDM": "physical:0200000000600a0b"}]),
        _vm("plain-1"),
    ]  # fmt: skip
    datacenters = [vsphere_lab.datacenter("dc1")]
    with (
        vsphere_lab.vcenter(tmp_path_factory.mktemp("pitfalls"), datacenters=datacenters, vms=vms) as running,
        open_provider(vsphere_lab.connection(running, conn_id="pitfalls")) as provider,
    ):
        _reconfigure(provider)
        return {vm.name: vm for vm in provider.vms()}


def _reconfigure(provider: Any) -> None:
    """Give VMs what the lab's file cannot say."""
    content = provider.session.open().content
    view = content.viewManager.CreateContainerView(content.rootFolder, [vim.VirtualMachine], True)
    vms = {vm.name: vm for vm in view.view}
    vms["grows-1"].ReconfigVM_Task(vim.vm.ConfigSpec(memoryHotAddEnabled=True, cpuHotAddEnabled=True))

    vm = vms["sealed-1"]
    disk = next(one for one in vm.config.hardware.device if isinstance(one, vim.vm.device.VirtualDisk))
    disk.backing.keyId = vim.encryption.CryptoKeyId(keyId="key-1")
    edit = vim.vm.device.VirtualDeviceSpec(operation="edit", device=disk)
    vm.ReconfigVM_Task(vim.vm.ConfigSpec(deviceChange=[edit]))


def _ids(plan: Plan, *vms: SourceVm, facts: TargetFacts | None = None) -> set[str]:
    return {one.id for one in said(plan, *vms, facts=facts)}


def _plan(*names: str, **changed: Any) -> Plan:
    maps = {"storage_map": {"*": StorageTarget(storage_class="c")}}
    planned = (PlannedVm(id=name.replace("_", "-"), name=name) for name in names)
    return plan_of(*planned, **{**maps, **changed})


WARM = {"defaults": VmOptions(type="warm", enable_change_tracking=True)}
ON_APP = {"network_map": {"*": APP}}
GATES = target(kubevirt=NO_GATES, storage_classes=(StorageClass(name="c", provisioner="csi"),))


@pytest.mark.lab
@pytest.mark.parametrize(
    ("id_", "names", "plan", "facts"),
    [
        ("mtv.disk.bios_boot_over_2tib", ["large-1"], {}, None),
        ("mtv.wave.mac_twice", ["same-1", "same-2"], ON_APP, None),
        ("mtv.wave.ip_twice", ["same-1", "same-2"], ON_APP, None),
        ("plan.network.static_on_pod", ["same-1"], {"network_map": {"*": POD}}, None),
        ("mtv.guest.not_convertible", ["bsd-1"], {}, None),
        ("mtv.guest.bitlocker_possible", ["windows-1"], {}, None),
        ("mtv.guest.encrypted", ["locked-1"], {}, None),
        ("mtv.vm.tools_too_old", ["tools-1"], {}, None),
        ("mtv.disk.encrypted_by_source", ["sealed-1"], {}, None),
        ("plan.disk.physical_mode", ["physical-1"], {}, None),
        ("mtv.target.gate_vmpersistentstate", ["windows-1"], {}, GATES),
        ("mtv.target.no_state_class", ["windows-1"], {}, GATES),
        ("mtv.target.gate_hotplugvolumes", ["grows-1"], {}, GATES),
        ("mtv.target.memory_over_maximum", ["grows-1"], {}, GATES),
        (
            "mtv.storage.no_room_for_disk", ["large-1"], {},
            target(capacities=(Capacity(storage_class="c", free_bytes=GIB),)),
        ),
        (
            "mtv.storage.no_room_for_wave", ["large-1", "plain-1"], {},
            target(capacities=(Capacity(storage_class="c", free_bytes=GIB),)),
        ),
        (
            "plan.target.quota_too_small", ["large-1"], {},
            target(quotas=(Quota(name="q", hard={"requests.storage": GIB}, used={}),)),
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_a_pitfall_is_seen_in_what_vsphere_tells_and_not_in_a_plain_vm(
    vsphere: Mapping[str, SourceVm], id_: str, names: list[str], plan: dict[str, Any], facts: TargetFacts | None
) -> None:
    assert id_ in _ids(_plan(*names, **plan), *(vsphere[name] for name in names), facts=facts)
    assert id_ not in _ids(_plan("plain-1", **plan), vsphere["plain-1"], facts=facts)


@pytest.mark.parametrize(("files", "is_told"), [(3, False), (4, True)])
def test_a_long_chain_of_files_is_seen_in_a_disk_as_vsphere_describes_it(files: int, is_told: bool) -> None:
    backing = None
    for number in range(files + 1):
        backing = vim.vm.device.VirtualDisk.FlatVer2BackingInfo(
            fileName=f"[ds] c/c-{number:06d}.vmdk", diskMode="persistent", parent=backing
        )
    controller = vim.vm.device.ParaVirtualSCSIController(key=1000, busNumber=0, sharedBus="noSharing")
    disk = vim.vm.device.VirtualDisk(key=2000, controllerKey=1000, unitNumber=0, capacityInBytes=GIB, backing=backing)
    found = Found("VirtualMachine", "vm-1", {"name": "c", "config.hardware.device": [controller, disk]})
    (vm,) = finish(drafts_of([found], Surroundings([]), {}), Surroundings([]), {})
    assert ("mtv.warm.snapshot_chain" in _ids(_plan("c", **WARM), vm)) is is_told


@pytest.fixture(scope="module")
def ovirt_vms(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, SourceVm]]:
    """VMs of the lab's engine by name, as the provider reads them."""
    folder = tmp_path_factory.mktemp("pitfalls-engine")
    with ovirt_lab.engine(folder, _estate()) as engine:
        connection = ovirt_lab.connection(engine, folder / "pki" / "ca.crt")
        with open_provider(connection) as provider:
            yield {vm.name: vm for vm in provider.vms() if vm.name != "twice"}


def _estate() -> Estate:
    estate = data_centre()
    many = [nic(f"nic{number}", f"56:6f:09:00:00:{number:02x}") for number in range(29)]
    add_vm(estate, "cards-1", disks=[disk_with("cards-1_Disk1", GIB)], nics=many)
    add_vm(estate, "large-1", disks=[disk_with("large-1_Disk1", 3 << 40, bootable=True)],
           bios=types.Bios(type=types.BiosType.Q35_SEA_BIOS))  # fmt: skip
    for name in ("same-1", "same-2"):
        device = types.ReportedDevice(
            id=f"rd-{name}", name="eth0", mac=types.Mac(address=SAME_MAC), ips=[types.Ip(address=SAME_IP)]
        )
        add_vm(
            estate, name, status=types.VmStatus.UP, host=types.Host(id="host-1"),
            disks=[disk_with(f"{name}_Disk1", GIB)], nics=[nic("nic1", SAME_MAC)], reported_devices=[device],
        )  # fmt: skip
    return estate


CARDS = {"network_map": {"*": NetworkTarget(type="multus", name="n/app")}}


@pytest.mark.parametrize(
    ("id_", "names", "facts"),
    [
        ("mtv.nic.count_exceeds_limit", ["cards-1"], None),
        ("mtv.disk.bios_boot_over_2tib", ["large-1"], None),
        ("mtv.wave.mac_twice", ["same-1", "same-2"], None),
        ("mtv.wave.ip_twice", ["same-1", "same-2"], None),
        ("mtv.target.gate_vmpersistentstate", ["web-1"], GATES),
        ("mtv.target.no_state_class", ["web-1"], GATES),
        ("mtv.target.gate_hostdevices", ["odd_1"], GATES),
    ],
)
def test_a_pitfall_is_seen_in_what_an_engine_tells_and_not_in_a_plain_vm(
    ovirt_vms: Mapping[str, SourceVm], id_: str, names: list[str], facts: TargetFacts | None
) -> None:
    assert id_ in _ids(_plan(*names, **CARDS), *(ovirt_vms[name] for name in names), facts=facts)
    assert id_ not in _ids(_plan("off-1", **CARDS), ovirt_vms["off-1"], facts=facts)


def _unseen(provider: str, vms: Iterable[SourceVm]) -> set[tuple[str, ...]]:
    """Attributes that rules read and no document holds."""
    documents = [vm.document for vm in vms]
    read = {path for rule in load_rules(RULES, provider).rules for path in condition_paths(rule)}
    return {path for path in read if not any(values_at(document, path) for document in documents)}


@pytest.mark.lab
def test_documents_of_vsphere_hold_every_attribute_that_its_rules_read(vsphere: Mapping[str, SourceVm]) -> None:
    # No cluster of this vCenter ties a VM to hosts; tests/providers/test_vsphere_surroundings has one that does.
    assert _unseen("vmware", vsphere.values()) == {("host", "cluster", "hostAffinityVms", "id")}


def test_documents_of_appliances_hold_every_attribute_that_their_rules_read(
    tmp_path: Path, make: Any, ova_connection: Connection
) -> None:
    make.write_tar(tmp_path / "a.ova", {"a.ovf": make.envelope(make.system("a", "disk-file1")), "disk1.vmdk": b"x"})
    with open_provider(ova_connection) as provider:
        assert _unseen("ova", provider.vms()) == set()


@pytest.mark.lab
def test_no_vmware_rule_is_undefined_for_a_vm_that_is_read_whole(vsphere: Mapping[str, SourceVm]) -> None:
    documents = [vsphere["locked-1"].document, vsphere["windows-1"].document]
    for firing in firings(load_rules(RULES, "vmware"), documents):
        assert all(firing.known), firing.rule.id


@pytest.mark.lab
def test_vmware_rules_speak_of_the_vms_that_they_are_about(vsphere: Mapping[str, SourceVm]) -> None:
    vms = list(vsphere.values())
    said_of = evaluate(load_rules(RULES, "vmware"), [vm.document for vm in vms])
    by_name = {vm.name: {one.id for one in concerns} for vm, concerns in zip(vms, said_of, strict=True)}
    assert "vmware.tpm.detected" in by_name["windows-1"]
    assert "vmware.guestDisks.freespace" in by_name["locked-1"]
    assert "vmware.cpu_memory.hotplug.enabled" in by_name["grows-1"]
    assert "vmware.disk.rdm.detected" in by_name["physical-1"]
    assert "vmware.os.unsupported" in by_name["bsd-1"]
    assert by_name["plain-1"] <= {
        "vmware.changed_block_tracking.disabled",
        "vmware.changed_block_tracking.disk.disabled",
        "vmware.drs.enabled",
        "vmware.hostname.empty",
        "vmware.vm_missing_ip.detected",
    }
