"""What a host is made of: its cards, its disks, the adapters that lead to them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pyVmomi import vim

from mtv.inventory import snapshot
from mtv.model.connection import Connection
from mtv.providers.registry import open_provider
from mtv.providers.vmware import hosts

DISK = vim.host.ScsiDisk(
    key="key-disk-1",
    canonicalName="naa.600a0b80",
    vendor="NETAPP  ",
    model="LUN C-Mode",
    capacity=vim.host.DiskDimensions.Lba(blockSize=512, block=2048),
)
TAPE = vim.host.ScsiLun(key="key-tape-1", canonicalName="mpx.tape", vendor="x", model="y")
ADDRESS = vim.host.IpConfig(ipAddress="192.0.2.5", subnetMask="255.255.255.0")
KERNEL_CARD = vim.host.VirtualNic(
    key="key-vmk-0",
    device="vmk0",
    portgroup="Management Network",
    spec=vim.host.VirtualNic.Specification(ip=ADDRESS, mtu=1500),
)
OTHER_CARD = vim.host.VirtualNic(
    key="key-vmk-1",
    device="vmk1",
    portgroup="",
    spec=vim.host.VirtualNic.Specification(
        mtu=9000,
        distributedVirtualPort=vim.dvs.PortConnection(switchUuid="s", portgroupKey="dvportgroup-7"),
    ),
)
TOLD = {
    "summary.config.sslThumbprint": "AA:BB",
    "capability.vmotionSupported": True,
    "config.network.pnic": [
        vim.host.PhysicalNic(key="p0", device="vmnic0", linkSpeed=vim.host.PhysicalNic.LinkSpeedDuplex(speedMb=10000)),
        vim.host.PhysicalNic(key="p1", device="vmnic1"),
    ],
    "config.network.vnic": [KERNEL_CARD, OTHER_CARD],
    "config.network.portgroup": [
        vim.host.PortGroup(
            key="g0", vswitch="s0", spec=vim.host.PortGroup.Specification(name="VM Network", vlanId=20, vswitchName="s")
        )
    ],
    "config.network.vswitch": [vim.host.VirtualSwitch(key="s0", name="vSwitch0", portgroup=["g0"], pnic=["p1", "p0"])],
    "config.virtualNicManagerInfo.netConfig": [
        vim.host.VirtualNicManager.NetConfig(
            nicType=kind, candidateVnic=[KERNEL_CARD, OTHER_CARD], selectedVnic=["key-vmk-0"]
        )
        for kind in ("management", "vmotion")
    ],
    "config.storageDevice.hostBusAdapter": [
        vim.host.FibreChannelHba(key="h0", device="vmhba0", model="QLE "),
        vim.host.FibreChannelOverEthernetHba(key="h1", device="vmhba1", model="m"),
        vim.host.InternetScsiHba(key="h2", device="vmhba2", model="m"),
        vim.host.HostBusAdapter(key="h3", device="vmhba3", model="m"),
    ],
    "config.storageDevice.scsiLun": [DISK, TAPE],
    "config.storageDevice.scsiTopology.adapter": [
        vim.host.ScsiTopology.Interface(
            key="t0",
            adapter="h0",
            target=[
                vim.host.ScsiTopology.Target(
                    lun=[
                        vim.host.ScsiTopology.Lun(scsiLun="key-disk-1"),
                        vim.host.ScsiTopology.Lun(scsiLun="key-tape-1"),
                    ]
                )
                for _ in range(2)
            ],
        ),
        vim.host.ScsiTopology.Interface(key="t1", adapter="h3"),
    ],
}


def test_a_host_tells_its_network_its_disks_and_what_leads_to_them() -> None:
    document = hosts.hardware(TOLD)
    assert document["thumbprint"] == "AA:BB"
    assert (document["vMotionSupported"], document["storageVMotionSupported"]) == (True, False)
    assert document["managementIPs"] == ["192.0.2.5"]
    network = document["networking"]
    assert [(card["device"], card["linkSpeed"]) for card in network["pNICs"]] == [("vmnic0", 10000), ("vmnic1", 0)]
    assert [(card["device"], card["portGroup"], card["dPortGroup"], card["mtu"]) for card in network["vNICs"]] == [
        ("vmk0", "Management Network", "", 1500),
        ("vmk1", "", "dvportgroup-7", 9000),
    ]
    assert network["portGroups"] == [{"key": "g0", "name": "VM Network", "vSwitch": "s0", "vlanId": 20}]
    assert network["switches"] == [{"key": "s0", "name": "vSwitch0", "portGroups": ["g0"], "pNICs": ["p0", "p1"]}]
    assert document["hostScsiDisks"] == [
        {"key": "key-disk-1", "canonicalName": "naa.600a0b80", "vendor": "NETAPP", "model": "LUN C-Mode",
         "capacity": 1 << 20},
    ]  # fmt: skip
    assert [(one["device"], one["protocol"]) for one in document["hbaDiskInfo"]] == [
        ("vmhba0", "FC"), ("vmhba1", "FCoE"), ("vmhba2", "iSCSI"), ("vmhba3", ""),
    ]  # fmt: skip
    assert document["hostScsiTopology"] == [
        {"key": "t0", "adapter": "h0", "disks": ["naa.600a0b80"]},
        {"key": "t1", "adapter": "h3", "disks": []},
    ]


def test_a_host_of_which_nothing_may_be_read_has_empty_lists() -> None:
    document = hosts.hardware({})
    assert document["networking"] == {"pNICs": [], "vNICs": [], "portGroups": [], "switches": []}
    assert (document["hostScsiDisks"], document["hbaDiskInfo"], document["hostScsiTopology"]) == ([], [], [])


@pytest.mark.lab
def test_a_vcenter_tells_these_of_its_hosts_in_an_inventory_and_not_with_some_vms(
    connect: Callable[..., Connection],
) -> None:
    with open_provider(connect()) as provider:
        things = {thing.name: thing for thing in snapshot(provider).listed}
        host = things["esx-1.lab"].document
        assert host["networking"]["pNICs"][0]["device"] == "vmnic0"
        assert host["hbaDiskInfo"][0]["device"].startswith("vmhba")
        assert host["hostScsiDisks"][0]["canonicalName"]
        assert host["hostScsiTopology"][0]["adapter"]
        assert things["VM Network"].document["hosts"] == [], "the lab's networks do not know their hosts"
        (vm,) = provider.vms(["off-1"])
    assert "networking" not in vm.document["host"], "a VM's document says where it is, not what its host is made of"
