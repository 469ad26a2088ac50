"""The pure parts of the vSphere provider, on pyVmomi's own data objects."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyVmomi import vim

from mtv.kubevirt.mapping import root_disk
from mtv.model.errors import PermanentError
from mtv.model.plan import PlannedVm
from mtv.model.source import PowerState, SourceDisk, SourceVm
from mtv.providers.vmware import devices, guest
from mtv.providers.vmware.build import drafts_of, finish
from mtv.providers.vmware.collect import Found
from mtv.providers.vmware.disk_access import flat_path, why_not_flat
from mtv.providers.vmware.generation import forgotten
from mtv.providers.vmware.surroundings import Surroundings, readable_name
from tests.validation.wave_values import plan_of, said

Device = vim.vm.device


def disk(key: int, controller: int, unit: int, file: str = "[ds] a/a.vmdk", **backing: object) -> Device.VirtualDisk:
    return Device.VirtualDisk(
        key=key,
        controllerKey=controller,
        unitNumber=unit,
        capacityInBytes=1 << 30,
        backing=Device.VirtualDisk.FlatVer2BackingInfo(fileName=file, diskMode="persistent", **backing),
    )


CONTROLLERS = [
    Device.VirtualNVMEController(key=31000, busNumber=0),
    Device.ParaVirtualSCSIController(key=1000, busNumber=0, sharedBus="noSharing"),
    Device.ParaVirtualSCSIController(key=1001, busNumber=1, sharedBus="noSharing"),
    Device.VirtualIDEController(key=200, busNumber=0),
    Device.VirtualAHCIController(key=15000, busNumber=0),
]
NOTHING = Surroundings([])


@given(st.permutations([(1, 31000, 0), (2, 1001, 0), (3, 1000, 7), (4, 1000, 0), (5, 200, 1), (6, 15000, 3)]))
def test_disks_go_by_bus_then_controller_then_unit_whatever_vsphere_lists_first(listed):
    found = devices.disks(
        [disk(*place) for place in listed] + CONTROLLERS, NOTHING, extra_config={}, has_snapshot=False
    )
    assert [entry["key"] for entry in found] == [6, 5, 4, 3, 2, 1]
    assert [entry["bus"] for entry in found] == ["sata", "ide", "scsi", "scsi", "scsi", "nvme"]


def test_a_disk_keeps_its_identity_through_snapshots():
    root = Device.VirtualDisk.FlatVer2BackingInfo(fileName="[ds] a/a.vmdk", diskMode="persistent")
    middle = Device.VirtualDisk.FlatVer2BackingInfo(fileName="[ds] a/a-000001.vmdk", diskMode="persistent", parent=root)
    with_snapshots = disk(1, 1000, 0, file="[ds] a/a-000002.vmdk", parent=middle)
    (found,) = devices.disks([*CONTROLLERS, with_snapshots], NOTHING, extra_config={}, has_snapshot=True)
    assert found["base"] == "[ds] a/a.vmdk"
    assert found["file"] == "[ds] a/a-000002.vmdk"
    assert found["parent"] == "[ds] a/a.vmdk"


def built_disk(file: str, *, vm: str = "vm-1", **backing: object) -> SourceDisk:
    """The only disk of a VM, as the provider gives it."""
    own = {"name": vm, "config.instanceUuid": f"uuid of {vm}"}
    devices = [*CONTROLLERS, disk(2000, 1000, 0, file, **backing)]
    (built,) = finish(
        drafts_of([Found("VirtualMachine", vm, {**own, "config.hardware.device": devices})], NOTHING, {}), NOTHING, {}
    )
    return built.disks[0]


def test_a_disk_keeps_its_identity_when_it_moves_to_another_datastore():
    before, after = (built_disk(file, uuid="6000C29a") for file in ("[ds-1] a/a.vmdk", "[ds-2] a/a.vmdk"))
    assert before.identity == after.identity
    assert built_disk("[ds-1] a/a.vmdk", uuid="6000C29b").identity != before.identity
    assert built_disk("[ds-1] a/a.vmdk", vm="vm-2", uuid="6000C29a").identity != before.identity, "a copy made by hand"


def test_a_disk_without_a_uuid_is_named_by_its_path_as_all_were_before():
    nameless = built_disk("[ds-1] a/a.vmdk")
    assert nameless.identity == "uuid of vm-1/2000/[ds-1] a/a.vmdk"
    assert nameless.former_identities == ()
    assert built_disk("[ds-1] a/a.vmdk", uuid="6000C29a").former_identities == (nameless.identity,)


@pytest.mark.parametrize(
    ("before", "now", "is_forgotten"),
    [
        pytest.param(("52/4", "7", "T1"), ("52/4", "7", ""), True, id="forgotten"),
        pytest.param(("52/4", "7", "T1"), ("52/4", "7", "T2"), False, id="started-again"),
        pytest.param(("52/4", "7", "T1"), ("52/4", "8", ""), False, id="configured"),
        pytest.param(("52/4", "7", "T1"), ("52/5", "7", ""), False, id="written"),
        pytest.param(("52/4", "7", ""), ("52/4", "7", "T1"), False, id="first-start"),
        pytest.param(("52/4", "7", "T1"), ("52/4", "7", "T1"), False, id="same"),
    ],
)
def test_only_a_start_may_be_forgotten(before, now, is_forgotten):
    def vm(change_id: str, version: str, power_on: str) -> SourceVm:
        own = {"name": "vm", "config.changeVersion": version}
        devices = [*CONTROLLERS, disk(2000, 1000, 0, changeId=change_id)]
        found = [Found("VirtualMachine", "vm-1", {**own, "config.hardware.device": devices})]
        return finish(drafts_of(found, NOTHING, {}), NOTHING, {"vm-1": power_on})[0]

    assert bool(forgotten(vm(*before), vm(*now))) is is_forgotten


@pytest.mark.parametrize(
    ("file", "has_snapshot", "base"),
    [
        pytest.param("[ds] a/a-000001.vmdk", True, "[ds] a/a.vmdk", id="delta-without-chain"),
        pytest.param("[ds] a/a-000001.vmdk", False, "[ds] a/a-000001.vmdk", id="really-called-so"),
        pytest.param("[ds] a-000001/a.vmdk", True, "[ds] a-000001/a.vmdk", id="folder-called-so"),
        pytest.param("[ds] a/a-00001.vmdk", True, "[ds] a/a-00001.vmdk", id="five-digits"),
    ],
)
def test_the_delta_suffix_goes_only_where_a_snapshot_put_it(file, has_snapshot, base):
    assert devices.base_vmdk(file, [], has_snapshot=has_snapshot) == base


def test_change_tracking_is_read_per_disk():
    found = devices.disks(
        [*CONTROLLERS, disk(1, 1000, 0), disk(2, 1001, 3), disk(3, 1000, 1, changeId="52 aa/4")],
        NOTHING,
        extra_config={"scsi1:3.ctkenabled": "TRUE", "scsi0:0.ctkenabled": "FALSE"},
        has_snapshot=False,
    )
    assert {entry["key"]: entry["changeTrackingEnabled"] for entry in found} == {1: False, 2: True, 3: True}


def test_flat_paths():
    assert flat_path("[ds gold] web-1/web-1_1.vmdk") == ("ds gold", "web-1/web-1_1-flat.vmdk")
    with pytest.raises(PermanentError):
        flat_path("web-1.vmdk")


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({}, ""),
        ({"snapshot": True}, "snapshot"),
        ({"chained": True}, "linked clone"),
        ({"backing": "SeSparseBackingInfo"}, "SeSparse"),
        ({"datastore_type": "vsan"}, "vsan"),
        ({"datastore_type": "VVOL"}, "VVOL"),
        ({"datastore_type": "NFS41"}, ""),
    ],
)
def test_the_flat_file_is_used_only_where_it_is_the_whole_disk(changed, why):
    locator = {"snapshot": False, "chained": False, "backing": "FlatVer2BackingInfo", "datastore_type": "VMFS"}
    reason = why_not_flat({**locator, **changed})
    assert (why in reason) if why else reason == ""


def test_names_are_unescaped_once():
    assert readable_name("a%2fb%5cc%25d") == "a/b\\c%d"
    assert readable_name("100%252f") == "100%2f"


def _reference(kind: type, moref: str) -> object:
    return kind(moref, None)


def tree(*more: tuple[str, str, dict[str, object]]) -> Surroundings:
    """Folders and a data centre, and what a test needs beside."""
    folder, datacenter = vim.Folder, vim.Datacenter
    rows = [
        ("Folder", "group-d1", {"name": "Datacenters"}),
        ("Folder", "group-1", {"name": "emea", "parent": _reference(folder, "group-d1")}),
        ("Datacenter", "dc-1", {"name": "dc%2f1", "parent": _reference(folder, "group-1")}),
        ("Folder", "group-v", {"name": "vm", "parent": _reference(datacenter, "dc-1")}),
        ("Folder", "group-p", {"name": "vm", "parent": _reference(folder, "group-v")}),
    ]
    return Surroundings([Found(*row) for row in (*rows, *more)])


def test_paths_leave_hidden_folders_out_and_keep_folders_that_are_merely_called_so():
    assert tree().path("group-p") == "emea/dc/1/vm"
    assert tree().path("group-v") == "emea/dc/1"
    assert tree().path("dc-1", escaped=True) == "emea/dc%2f1"
    assert tree().datacenter_of("group-p") == "dc-1"
    assert tree().path("no-such") == ""


def test_a_vm_of_a_vapp_has_no_parent_of_its_own_and_lies_where_its_vapp_does():
    rows = [
        ("VirtualApp", "vapp-1", {"name": "shop", "parentFolder": _reference(vim.Folder, "group-v")}),
        ("VirtualApp", "vapp-2", {"name": "back", "parentVApp": _reference(vim.VirtualApp, "vapp-1")}),
    ]
    around = tree(*rows)
    found = Found("VirtualMachine", "vm-1", {"name": "db", "parentVApp": _reference(vim.VirtualApp, "vapp-2")})
    (vm,) = finish(drafts_of([found], around, {}), around, {})
    assert vm.document["path"] == "emea/dc/1/shop/back/db"
    assert (vm.document["folder"], vm.document["parent"]["kind"]) == ("group-v", "VirtualApp")
    assert vm.document["datacenter"] == {"id": "dc-1", "name": "dc/1"}


def test_a_vm_whose_folder_may_not_be_seen_lies_in_the_datacenter_of_its_host():
    rows = [
        ("Folder", "group-h", {"name": "host", "parent": _reference(vim.Datacenter, "dc-1")}),
        ("HostSystem", "host-1", {"name": "esx", "parent": _reference(vim.Folder, "group-h")}),
    ]
    around = tree(*rows)
    found = Found("VirtualMachine", "vm-1", {"name": "db", "runtime.host": _reference(vim.HostSystem, "host-1")})
    (vm,) = finish(drafts_of([found], around, {}), around, {})
    assert vm.document["datacenter"]["id"] == "dc-1"


def test_a_vm_whose_configuration_cannot_be_read_still_has_its_row():
    lost = Found("VirtualMachine", "vm-9", {"name": "lost", "runtime.connectionState": "orphaned"}, ("config.uuid",))
    (vm,) = finish(drafts_of([lost], NOTHING, {}), NOTHING, {})
    assert (vm.name, vm.power, vm.disks) == ("lost", PowerState.UNKNOWN, ())
    assert vm.document["connectionState"] == "orphaned"
    assert vm.document["unreadable"] == ["config.uuid"]


def test_a_file_used_by_two_vms_is_shared():
    def vm(moref: str, file: str) -> Found:
        return Found(
            "VirtualMachine", moref, {"name": moref, "config.hardware.device": [*CONTROLLERS, disk(1, 1000, 0, file)]}
        )

    found = [vm("vm-1", "[ds] q.vmdk"), vm("vm-2", "[ds] q.vmdk"), vm("vm-3", "[ds] r.vmdk")]
    built = finish(drafts_of(found, NOTHING, {}), NOTHING, {})
    assert [one.disks[0].shared for one in built] == [True, True, False]


Boot = vim.vm.BootOptions


@pytest.mark.parametrize(
    ("order", "keys"),
    [
        pytest.param([Boot.BootableDiskDevice(deviceKey=2000)], ["2000", "16000", "2001"], id="disk"),
        pytest.param(
            [Boot.BootableCdromDevice(), *(Boot.BootableDiskDevice(deviceKey=key) for key in (2001, 2000))],
            ["2001", "16000", "2000"],
            id="first-disk-after-a-cd",
        ),
        pytest.param([Boot.BootableEthernetDevice(deviceKey=4000)], ["16000", "2000", "2001"], id="no-disk"),
        pytest.param([Boot.BootableDiskDevice(deviceKey=9)], ["16000", "2000", "2001"], id="gone"),
        pytest.param(None, ["16000", "2000", "2001"], id="unset"),
    ],
)
def test_the_disk_that_the_boot_order_names_is_first_and_so_the_root(order, keys):
    on_disks = [disk(16000, 15000, 0), disk(2000, 1000, 0), disk(2001, 1000, 1)]
    properties = {"name": "a", "config.hardware.device": [*CONTROLLERS, *on_disks]}
    if order is not None:
        properties["config.bootOptions.bootOrder"] = order
    (vm,) = finish(drafts_of([Found("VirtualMachine", "vm-1", properties)], NOTHING, {}), NOTHING, {})
    assert [one.id for one in vm.disks] == keys
    assert [one.index for one in vm.disks] == [0, 1, 2]
    assert root_disk(vm, "").id == keys[0]
    assert root_disk(vm, "2001").id == "2001"


@pytest.mark.parametrize(("bus", "shared"), [("noSharing", False), ("physicalSharing", True), ("virtualSharing", True)])
def test_a_disk_on_a_bus_that_nodes_share_is_shared_though_its_file_says_sharing_none(bus, shared):
    controller = Device.VirtualLsiLogicSASController(key=1000, busNumber=1, sharedBus=bus)
    node = Found(
        "VirtualMachine",
        "vm-1",
        {"name": "a", "config.hardware.device": [controller, disk(1, 1000, 0, sharing="sharingNone")]},
    )
    (vm,) = finish(drafts_of([node], NOTHING, {}), NOTHING, {})
    assert vm.disks[0].shared is shared
    assert vm.document["disks"][0]["shared"] is shared
    assert vm.document["controllers"][0]["sharedBus"] == bus
    conditions = said(plan_of(PlannedVm(id="a", name="a")), vm)
    assert ("plan.disk.shared_outside" in {condition.id for condition in conditions}) is shared


def test_a_lun_that_two_vms_map_each_by_a_file_of_its_own_is_shared():
    def vm(moref: str, lun: str) -> Found:
        backing = Device.VirtualDisk.RawDiskMappingVer1BackingInfo(
            fileName=f"[ds] {moref}.vmdk", diskMode="persistent", compatibilityMode="virtualMode", lunUuid=lun
        )
        mapped = Device.VirtualDisk(key=1, controllerKey=1000, unitNumber=0, capacityInBytes=1, backing=backing)
        return Found("VirtualMachine", moref, {"name": moref, "config.hardware.device": [*CONTROLLERS, mapped]})

    found = [vm("vm-1", "02-q"), vm("vm-2", "02-q"), vm("vm-3", "02-r")]
    built = finish(drafts_of(found, NOTHING, {}), NOTHING, {})
    assert [one.disks[0].shared for one in built] == [True, True, False]
    plan = plan_of(PlannedVm(id="vm-1", name="vm-1"), PlannedVm(id="vm-2", name="vm-2"))
    assert "plan.disk.shared_outside" not in {condition.id for condition in said(plan, *built)}, "both are in the wave"


def test_disks_of_windows_know_their_drive_letter():
    rows = [{"key": 2000, "diskPath": path} for path in ("C:\\", "D:\\")] + [
        {"key": 0, "diskPath": "E:\\"},
        {"key": 2001, "diskPath": "/"},
    ]
    found = guest.with_drive_letters([{"key": 2000}, {"key": 2001}], rows)
    assert [disk["winDriveLetter"] for disk in found] == ["c", ""]


@pytest.mark.parametrize(
    ("text", "apps"),
    [
        ('{"version": "1", "applications": [{"a": "nginx", "v": "1.26"}, 7]}', [{"name": "nginx", "version": "1.26"}]),
        ("", []),
        ("[1]", []),
        ('{"applications": "none"}', []),
        ("{", []),
    ],
)
def test_applications_are_those_that_the_tools_discovered(text, apps):
    assert guest.guest_apps(text) == apps
