"""Appliances as vendors write them: read where they lie, every byte found by offset."""

from __future__ import annotations

import gzip
import os
import struct
from pathlib import Path

import msgspec
import pytest

from mtv.model.errors import DriftError, PermanentError
from mtv.model.source import Firmware, PowerState
from mtv.model.transfer import OvaMember
from mtv.providers.ova.units import bytes_of
from mtv.providers.registry import open_provider

DISK = b"the bytes of a disk" * 100


def sparse_vmdk(capacity_bytes: int) -> bytes:
    return b"KDMV" + struct.pack("<IIQ", 3, 0x30001, capacity_bytes // 512) + bytes(1000)


def test_a_disk_is_found_by_offset_and_carries_its_digest(tmp_path, make, ova_connection):
    ovf = make.envelope(make.system("app-1", "disk-file1"))
    files = {"app-1.ovf": ovf, "app-1.mf": make.manifest({"app-1.ovf": ovf, "disk1.vmdk": DISK}), "disk1.vmdk": DISK}
    path = make.write_tar(tmp_path / "app-1.ova", files)
    with open_provider(ova_connection) as provider:
        (vm,) = provider.vms(["app-1"])
        source = provider.disk_source(vm, vm.disks[0])
    assert isinstance(source, OvaMember)
    with path.open("rb") as tar:
        tar.seek(source.offset)
        assert tar.read(source.length) == DISK
    assert source.checksum.startswith("sha256:")
    assert vm.disks[0].generation == f"{source.checksum}@{len(DISK)}:{path.stat().st_mtime_ns}"
    assert (vm.id, vm.disks[0].identity) == ("app-1.ova#app-1", "app-1.ova/disk1.vmdk")
    assert (vm.disks[0].id, vm.disks[0].storage, vm.disks[0].bus) == ("disk-file1", "disk-file1", "scsi")
    assert vm.document["ovaSource"] == "VMware"


def test_an_appliance_is_always_off_and_never_powered_on(tmp_path, make, ova_connection):
    make.write_tar(tmp_path / "a.ova", {"a.ovf": make.envelope(make.system("a", "disk-file1")), "disk1.vmdk": DISK})
    with open_provider(ova_connection) as provider:
        (vm,) = provider.vms()
        assert vm.power is provider.power_state(vm) is PowerState.OFF
        assert provider.power_off(vm, timeout_s=1) == "already off"
        with pytest.raises(PermanentError):
            provider.power_on(vm)
        assert provider.pod_credentials() == {}


def test_the_walk_goes_two_deep_for_ova_and_three_for_ovf_and_follows_no_link(tmp_path, make, ova_connection):
    def ova(folder, name):
        folder.mkdir(parents=True, exist_ok=True)
        content = {f"{name}.ovf": make.envelope(make.system(name, "disk-file1")), "disk1.vmdk": DISK}
        make.write_tar(folder / f"{name}.ova", content)

    def ovf(folder, name):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.ovf").write_bytes(make.envelope(make.system(name, "disk-file1")))
        (folder / "disk1.vmdk").write_bytes(DISK)

    share = tmp_path / "share"
    ova(share, "ova-1")
    ova(share / "x", "ova-2")
    ova(share / "x" / "y", "ova-3")
    ovf(share / "x" / "y", "ovf-3")
    ovf(share / "x" / "y" / "z", "ovf-4")
    ova(tmp_path / "outside", "ova-outside")
    (share / "link").symlink_to(tmp_path / "outside")
    connection = type(ova_connection)(conn_id="c", conn_type="ova", extra={"path": str(share)})
    with open_provider(connection) as provider:
        assert sorted(vm.name for vm in provider.vms()) == ["ova-1", "ova-2", "ovf-3"]
        assert provider.refused == {}


def test_several_vms_in_one_envelope_are_several_vms(tmp_path, make, ova_connection):
    systems = (
        make.system("front", "disk-file1")
        + f"<VirtualSystemCollection>{make.system('back', 'disk-file2')}</VirtualSystemCollection>"
    )
    ovf = make.envelope(systems, files={"file1": 'ovf:href="one.vmdk"', "file2": 'ovf:href="two.vmdk"'})
    make.write_tar(tmp_path / "pair.ova", {"pair.ovf": ovf, "one.vmdk": DISK, "two.vmdk": DISK * 2})
    with open_provider(ova_connection) as provider:
        front, back = provider.vms()
        assert (front.name, back.name) == ("front", "back")
        assert front.id != back.id
        assert provider.disk_source(back, back.disks[0]).length == len(DISK) * 2
        assert [vm.name for vm in provider.vms(["back"])] == ["back"]


VCLOUD = """<?xml version="1.0"?>
<ovf:Envelope xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1" xmlns:vcloud="http://www.vmware.com/vcloud/v1.5"
 xmlns:vmw="http://www.vmware.com/schema/ovf"
 xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData"
 xmlns:vssd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData">
 <ovf:References><ovf:File ovf:href="vm-disk-0.vmdk" ovf:id="file0" ovf:size="1024"/></ovf:References>
 <ovf:DiskSection><ovf:Info/><ovf:Disk ovf:capacity="8589934592" ovf:diskId="vmdisk0" ovf:fileRef="file0"
  ovf:format="http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"/></ovf:DiskSection>
 <ovf:NetworkSection><ovf:Info/><ovf:Network ovf:name="org-net"/><ovf:Network ovf:name="none"/></ovf:NetworkSection>
 <vcloud:CustomizationSection goldMaster="false"><ovf:Info/></vcloud:CustomizationSection>
 <vcloud:NetworkConfigSection ovf:required="false"><ovf:Info/></vcloud:NetworkConfigSection>
 <ovf:VirtualSystemCollection ovf:id="shop"><ovf:Info/><ovf:Name>shop</ovf:Name>
  <ovf:StartupSection><ovf:Info/><ovf:Item ovf:id="web" ovf:order="0" ovf:startAction="powerOn"/></ovf:StartupSection>
  <ovf:VirtualSystem ovf:id="web"><ovf:Info/><ovf:Name>web</ovf:Name>
   <ovf:OperatingSystemSection ovf:id="101" vmw:osType="debian12_64Guest"><ovf:Info/></ovf:OperatingSystemSection>
   <ovf:VirtualHardwareSection ovf:transport=""><ovf:Info/>
    <ovf:System><vssd:VirtualSystemIdentifier>web</vssd:VirtualSystemIdentifier></ovf:System>
    <ovf:Item><rasd:Address>00:50:56:01:02:03</rasd:Address><rasd:AddressOnParent>0</rasd:AddressOnParent>
     <rasd:AutomaticAllocation>true</rasd:AutomaticAllocation>
     <rasd:Connection vcloud:ipAddressingMode="POOL" vcloud:ipAddress="10.0.0.7"
      vcloud:primaryNetworkConnection="true">org-net</rasd:Connection>
     <rasd:InstanceID>1</rasd:InstanceID><rasd:ResourceSubType>VMXNET3</rasd:ResourceSubType>
     <rasd:ResourceType>10</rasd:ResourceType></ovf:Item>
    <ovf:Item><rasd:Address>0</rasd:Address><rasd:InstanceID>2</rasd:InstanceID>
     <rasd:ResourceSubType>VirtualSCSI</rasd:ResourceSubType><rasd:ResourceType>6</rasd:ResourceType></ovf:Item>
    <ovf:Item><rasd:AddressOnParent>0</rasd:AddressOnParent>
     <rasd:HostResource vcloud:capacity="8192" vcloud:busType="6"
      vcloud:busSubType="VirtualSCSI">ovf:/disk/vmdisk0</rasd:HostResource><rasd:InstanceID>2000</rasd:InstanceID>
     <rasd:Parent>2</rasd:Parent><rasd:ResourceType>17</rasd:ResourceType></ovf:Item>
    <ovf:Item><rasd:AllocationUnits>hertz * 10^6</rasd:AllocationUnits><rasd:InstanceID>3</rasd:InstanceID>
     <rasd:ResourceType>3</rasd:ResourceType><rasd:VirtualQuantity>4</rasd:VirtualQuantity>
     <vmw:CoresPerSocket ovf:required="false">2</vmw:CoresPerSocket></ovf:Item>
    <ovf:Item><rasd:AllocationUnits>byte * 2^20</rasd:AllocationUnits><rasd:InstanceID>4</rasd:InstanceID>
     <rasd:ResourceType>4</rasd:ResourceType><rasd:VirtualQuantity>2048</rasd:VirtualQuantity></ovf:Item>
   </ovf:VirtualHardwareSection>
   <vcloud:GuestCustomizationSection ovf:required="false"><ovf:Info/></vcloud:GuestCustomizationSection>
   <vcloud:NetworkConnectionSection ovf:required="false"><ovf:Info/></vcloud:NetworkConnectionSection>
  </ovf:VirtualSystem>
 </ovf:VirtualSystemCollection>
</ovf:Envelope>
"""


def test_a_vapp_of_vmware_cloud_director_is_read(tmp_path, make, ova_connection):
    make.write_tar(tmp_path / "shop.ova", {"shop.ovf": VCLOUD.encode(), "vm-disk-0.vmdk": DISK})
    with open_provider(ova_connection) as provider:
        (vm,) = provider.vms()
    assert (vm.name, vm.document["ovaSource"]) == ("web", "VMware")
    assert (vm.cpu_count, vm.cores_per_socket, vm.memory_bytes) == (4, 2, 2 << 30)
    assert [(disk.id, disk.bus, disk.size_bytes) for disk in vm.disks] == [("vmdisk0", "scsi", 8 << 30)]
    assert [(nic.network, nic.mac, nic.model) for nic in vm.nics] == [("org-net", "00:50:56:01:02:03", "vmxnet3")]


@pytest.mark.parametrize(
    ("addresses", "order"),
    [
        (("1", "0"), ["disk-file2", "disk-file1"]),  # VMware writes its second IDE controller first
        (("0", "1"), ["disk-file1", "disk-file2"]),
        (("0", "0"), ["disk-file1", "disk-file2"]),
        (("1", ""), ["disk-file1", "disk-file2"]),
        (("one", "two"), ["disk-file1", "disk-file2"]),
    ],
)
def test_disks_of_one_bus_stand_by_the_addresses_of_their_controllers(tmp_path, make, ova_connection, addresses, order):
    hardware = "".join(
        make.item(5, 40 + number, Address=address)
        + make.item(17, 50 + number, Parent=40 + number, AddressOnParent=0, HostResource=f"/disk/disk-file{number}")
        for number, address in enumerate(addresses, start=1)
    )
    ovf = make.envelope(
        make.system("vm", extra=hardware), files={"file1": 'ovf:href="one.vmdk"', "file2": 'ovf:href="two.vmdk"'}
    )
    make.write_tar(tmp_path / "vm.ova", {"vm.ovf": ovf, "one.vmdk": DISK, "two.vmdk": DISK})
    with open_provider(ova_connection) as provider:
        (vm,) = provider.vms()
    assert [(disk.id, disk.bus) for disk in vm.disks] == [(disk, "ide") for disk in order]


def test_hardware_is_read_with_its_units(tmp_path, make, ova_connection):
    extra = make.item(20, 4, ResourceSubType="vmware.sata.ahci")
    extra += make.item(17, 20, Parent=4, AddressOnParent=0, HostResource="/disk/disk-file2")
    extra += make.item(
        10,
        30,
        Connection="VM Network",
        ResourceSubType="VmxNet3",
        Address="00:50:56:AB:CD:EF",
        AutomaticAllocation="true",
    )
    extra += make.item(10, 31, Connection="dmz", ResourceSubType="E1000", AutomaticAllocation="false")
    extra += '<vmw:Config vmw:key="firmware" vmw:value="efi"/>'
    extra += '<vmw:Config vmw:key="bootOptions.efiSecureBootEnabled" vmw:value="true"/>'
    ovf = make.envelope(
        make.system("vm", "disk-file1", extra=extra, memory="2", units="byte * 2^30"),
        files={"file1": 'ovf:href="one.vmdk"', "file2": 'ovf:href="two.vmdk"'},
    )
    make.write_tar(tmp_path / "vm.ova", {"vm.ovf": ovf, "one.vmdk": DISK, "two.vmdk": DISK})
    with open_provider(ova_connection) as provider:
        (vm,) = provider.vms()
    assert (vm.cpu_count, vm.memory_bytes, vm.firmware, vm.secure_boot) == (2, 2 << 30, Firmware.EFI, True)
    assert [(disk.id, disk.bus) for disk in vm.disks] == [("disk-file1", "scsi"), ("disk-file2", "sata")]
    assert [(nic.network, nic.mac, nic.model, nic.connected) for nic in vm.nics] == [
        ("VM Network", "00:50:56:ab:cd:ef", "vmxnet3", True),
        ("dmz", "", "e1000", False),
    ]


def test_the_disk_itself_knows_its_size_better_than_the_ovf(tmp_path, make, ova_connection):
    ovf = make.envelope(make.system("vm", "disk-file1"))
    make.write_tar(tmp_path / "vm.ova", {"vm.ovf": ovf, "disk1.vmdk": sparse_vmdk(3 << 20)})
    with open_provider(ova_connection) as provider:
        (vm,) = provider.vms()
    assert vm.disks[0].size_bytes == 3 << 20
    assert vm.document["disks"][0]["capacity"] == 1 << 20


def test_a_compressed_disk_keeps_its_compression(tmp_path, make, ova_connection):
    ovf = make.envelope(
        make.system("vm", "disk-file1"), files={"file1": 'ovf:href="disk1.vmdk.gz" ovf:compression="gzip"'}
    )
    make.write_tar(tmp_path / "vm.ova", {"vm.ovf": ovf, "disk1.vmdk.gz": gzip.compress(DISK)})
    with open_provider(ova_connection) as provider:
        (vm,) = provider.vms()
        source = provider.disk_source(vm, vm.disks[0])
    assert (source.compression, source.format) == ("gzip", "vmdk")


def test_items_of_another_configuration_are_left_out(tmp_path, make, ova_connection):
    large = make.item(4, 2, VirtualQuantity=4096, AllocationUnits="byte * 2^20").replace(
        "<Item>", '<Item ovf:configuration="large">'
    )
    options = (
        '<DeploymentOptionSection><Configuration ovf:id="small" ovf:default="true"/>'
        '<Configuration ovf:id="large"/></DeploymentOptionSection>'
    )
    ovf = make.envelope(options + make.system("vm", "disk-file1", extra=large))
    make.write_tar(tmp_path / "vm.ova", {"vm.ovf": ovf, "disk1.vmdk": DISK})
    with open_provider(ova_connection) as provider:
        assert provider.vms()[0].memory_bytes == 512 << 20


def test_a_file_written_after_it_was_read_is_drift(tmp_path, make, ova_connection):
    path = make.write_tar(
        tmp_path / "vm.ova", {"vm.ovf": make.envelope(make.system("vm", "disk-file1")), "disk1.vmdk": DISK}
    )
    with open_provider(ova_connection) as provider:
        (vm,) = provider.vms()
        os.utime(path, ns=(0, 0))
        with pytest.raises(DriftError):
            provider.disk_source(vm, vm.disks[0])
        path.unlink()
        with pytest.raises(PermanentError, match="gone"):
            provider.disk_source(vm, vm.disks[0])


def test_an_appliance_is_known_by_its_file_and_not_by_where_a_worker_sees_it(tmp_path, make, ova_connection):
    names = {}
    for folder, fetched_ns in (("a", 1), ("b", 1), ("c", 2)):
        (tmp_path / folder).mkdir()
        path = make.write_tar(
            tmp_path / folder / "vm.ova", {"vm.ovf": make.envelope(make.system("vm", "disk-file1")), "disk1.vmdk": DISK}
        )
        os.utime(path, ns=(fetched_ns, fetched_ns))
        with open_provider(msgspec.structs.replace(ova_connection, extra={"path": str(path.parent)})) as provider:
            (vm,) = provider.vms()
            names[folder] = provider.identity(vm)
    assert names["a"] == names["b"]
    assert names["a"] != names["c"]
    assert names["a"].startswith("ova:vm.ova#vm/")


@pytest.mark.parametrize("packed", ["tar", "folder", "pieces"])
def test_a_file_that_was_fetched_again_is_another_generation_though_its_manifest_is_the_same(
    tmp_path, make, ova_connection, packed
):
    """Blocks that were copied from a damaged file must not be resumed, and may be proven already."""
    ovf, pieces = chunked(make) if packed == "pieces" else (make.envelope(make.system("cut", "disk-file1")), {})
    disks = pieces or {"disk1.vmdk": DISK}
    files = {"cut.ovf": ovf, "cut.mf": make.manifest({"cut.ovf": ovf, **disks}), **disks}
    if packed == "tar":
        last = make.write_tar(tmp_path / "cut.ova", files)
    else:
        for name, content in files.items():
            (tmp_path / name).write_bytes(content)
        last = tmp_path / max(disks)
    generations = set()
    with open_provider(ova_connection) as provider:
        for fetched_ns in (1, 2, 2):
            os.utime(last, ns=(fetched_ns, fetched_ns))
            (vm,) = provider.vms()
            assert provider.disk_source(vm, vm.disks[0]).checksum
            generations.add(vm.disks[0].generation)
    assert len(generations) == 2


def test_the_extents_of_a_descriptor_are_of_the_disks_generation_and_watched(tmp_path, make, ova_connection):
    """The descriptor is a small text that stays as it is whatever becomes of the disk."""
    files = {
        "vm.ovf": make.envelope(make.system("vm", "disk-file1")),
        "disk1.vmdk": b'# Disk DescriptorFile\nparentCID=ffffffff\nRW 8 FLAT "disk1-flat.vmdk" 0\n',
        "disk1-flat.vmdk": bytes(4096),
        "readme.txt": b"no part of the disk",
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with open_provider(ova_connection) as provider:
        (before,) = provider.vms()
        os.utime(tmp_path / "readme.txt", ns=(1, 1))
        assert provider.vms() == [before]
        assert provider.disk_source(before, before.disks[0]).path == str(tmp_path / "disk1.vmdk")
        os.utime(tmp_path / "disk1-flat.vmdk", ns=(1, 1))
        (after,) = provider.vms()
        assert after.disks[0].generation != before.disks[0].generation
        with pytest.raises(DriftError, match=r"disk1-flat\.vmdk"):
            provider.disk_source(before, before.disks[0])


@pytest.mark.parametrize("kind", ["sha1", "sha256", "sha512"])
def test_the_whole_manifest_is_checked_on_demand(tmp_path, make, ova_connection, kind):
    ovf = make.envelope(make.system("vm", "disk-file1"))
    listed = make.manifest({"vm.ovf": ovf, "disk1.vmdk": DISK}, kind=kind)
    make.write_tar(tmp_path / "vm.ova", {"vm.ovf": ovf, "vm.mf": listed, "disk1.vmdk": DISK[:-1] + b"!"})
    with open_provider(ova_connection) as provider:
        (vm,) = provider.vms()
        assert vm.disks[0].locator["checksum"].startswith(f"{kind}:")
        assert provider.manifest_problems(vm) == ["disk1.vmdk differs from the manifest"]
    make.write_tar(tmp_path / "vm.ova", {"vm.ovf": ovf, "vm.mf": listed, "disk1.vmdk": DISK})
    with open_provider(ova_connection) as provider:
        assert provider.manifest_problems(provider.vms()[0]) == []


@pytest.mark.parametrize(
    ("unit", "size"),
    [
        ("byte", 3),
        ("byte * 2^20", 3 << 20),
        ("byte*1024", 3 << 10),
        ("byte * 10^6", 3_000_000),
        ("MegaBytes", 3 << 20),
        ("GB", 3 << 30),
    ],
)
def test_units(unit, size):
    assert bytes_of("3", unit, what="it") == size


def test_a_folder_that_is_not_there_is_named():
    from mtv.model.connection import Connection

    connection = Connection(conn_id="c", conn_type="ova", extra={"path": "/no/such/folder"})
    with pytest.raises(PermanentError, match="/no/such/folder"), open_provider(connection):
        pass


def chunked(make, *, compression="", declared=len(DISK), chunk=800):
    """An OVF of one VM whose file is split into pieces of `chunk` bytes, and these pieces of DISK."""
    attributes = f'ovf:href="disk1.img" ovf:size="{declared}" ovf:chunkSize="{chunk}" ovf:compression="{compression}"'
    ovf = make.envelope(make.system("cut", "disk-file1"), files={"file1": attributes})
    pieces = [DISK[at : at + chunk] for at in range(0, len(DISK), chunk)]
    return ovf, {f"disk1.img.{number:09d}": piece for number, piece in enumerate(pieces)}


@pytest.mark.parametrize("packed", ["tar", "folder"])
def test_a_split_file_is_read_from_all_of_its_pieces_with_the_digest_of_each(tmp_path, make, ova_connection, packed):
    ovf, pieces = chunked(make, compression="gzip")
    files = {"cut.ovf": ovf, "cut.mf": make.manifest({"cut.ovf": ovf, **pieces}), **pieces}
    if packed == "tar":
        make.write_tar(tmp_path / "cut.ova", files)
    else:
        for name, content in files.items():
            (tmp_path / name).write_bytes(content)
    with open_provider(ova_connection) as provider:
        (vm,) = provider.vms(["cut"])
        source = provider.disk_source(vm, vm.disks[0])
        assert provider.manifest_problems(vm) == []
    assert isinstance(source, OvaMember)
    assert source.compression == "gzip"
    assert len(source.chunks) == 2
    read = b""
    for piece in (source, *source.chunks):
        assert piece.checksum.startswith("sha256:")
        with Path(piece.path).open("rb") as file:
            file.seek(piece.offset)
            read += file.read(piece.length)
    assert read == DISK
    assert vm.disks[0].generation.startswith("pieces:")


def test_a_piece_that_was_written_since_stops_the_copy(tmp_path, make, ova_connection):
    ovf, pieces = chunked(make)
    for name, content in {"cut.ovf": ovf, **pieces}.items():
        (tmp_path / name).write_bytes(content)
    with open_provider(ova_connection) as provider:
        (vm,) = provider.vms()
        os.utime(tmp_path / "disk1.img.000000002", (1, 1))
        with pytest.raises(DriftError, match="000000002"):
            provider.disk_source(vm, vm.disks[0])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda pieces: pieces.pop("disk1.img.000000001"), "lacks the piece disk1.img.000000001"),
        (lambda pieces: pieces.pop("disk1.img.000000002"), "1600 bytes together instead of 1900"),
        (lambda pieces: pieces.update({"disk1.img.000000000": b"short"}), "has 5 bytes, pieces have 800"),
        (lambda pieces: pieces.update({"disk1.img.000000002": b"x" * 900}), "has 900 bytes"),
    ],
)
def test_pieces_that_do_not_make_up_the_file_are_refused(tmp_path, make, ova_connection, change, reason):
    ovf, pieces = chunked(make)
    change(pieces)
    make.write_tar(tmp_path / "cut.ova", {"cut.ovf": ovf, **pieces})
    with open_provider(ova_connection) as provider:
        assert provider.vms() == []
        assert reason in provider.refused["cut.ova"]
