"""What is around the VMs of a vCenter, used or not, what people wrote on VMs, and where cards sit on their bus."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from pyVmomi import vim

from mtv.inventory import Snapshot, snapshot
from mtv.model.connection import Connection
from mtv.providers.registry import open_provider
from mtv.providers.vmware import pci, tags
from mtv.providers.vmware.collect import Found
from mtv.providers.vmware.devices import nics
from mtv.providers.vmware.surroundings import Surroundings
from mtv.providers.vmware.things import things
from tests.providers import vsphere_lab


@pytest.fixture(scope="module")
def seen(vcenter: dict[str, Any]) -> Snapshot:
    with open_provider(vsphere_lab.connection(vcenter)) as provider:
        return snapshot(provider)


@pytest.mark.lab
def test_what_no_vm_uses_is_listed_with_its_facts(seen: Snapshot) -> None:
    tables = seen.tables
    assert set(tables.hosts["name"]) == {"esx-1.lab", "esx-2.lab", "esx-3.lab", "esx-idle.lab"}
    assert set(tables.clusters["name"]) == {"cl-dc1", "cl-dc2", "cl-idle"}
    assert set(tables.datastores["name"]) == {"ds-gold", "ds-silver", "ds-other", "ds-idle"}
    assert {"VM Network", "dvpg-app", "dvpg-idle"} <= set(tables.networks["name"])
    idle = tables.hosts.set_index("name").loc["esx-idle.lab"]
    cluster = tables.clusters.set_index("name").loc["cl-idle"]
    assert idle["cluster_id"] == cluster["cluster_id"]
    assert idle["memory_bytes"] > 0
    assert idle["product"].startswith("VMware ESXi")
    assert (tables.datastores["capacity_bytes"] >= tables.datastores["free_bytes"]).all()
    assert tables.networks.set_index("name").loc["dvpg-idle", "variant"] == "DvPortGroup"
    for table in (tables.hosts, tables.clusters, tables.datastores, tables.networks):
        assert table[table.columns[0]].is_unique


@pytest.mark.lab
def test_a_distributed_switch_is_a_network_that_its_portgroups_name(seen: Snapshot) -> None:
    networks = [thing for thing in seen.things if thing.kind == "network"]
    switches = {thing.key: thing.document for thing in networks if thing.document["variant"] == "DvSwitch"}
    hosts = {thing.key for thing in seen.things if thing.kind == "host"}
    assert switches
    assert {thing.document["dvSwitch"] for thing in networks if thing.document["variant"] == "DvPortGroup"} <= {
        *switches
    }
    for switch in switches.values():
        assert switch["key"]
        assert switch["hosts"]
        assert set(switch["hosts"]) <= hosts


@pytest.mark.lab
def test_cards_on_networks_of_nsx_know_their_name(seen: Snapshot) -> None:
    vm = seen.vm("nsx-1")
    assert [nic.network for nic in vm.nics] == ["nsx-web", "segment-db", "VM Network"]
    networks = {thing.key: thing.document for thing in seen.things if thing.kind == "network"}
    opaque, segment, _ = (networks[nic["network"]["id"]] for nic in vm.document["nics"])
    assert (opaque["variant"], segment["variant"]) == ("OpaqueNetwork", "DvPortGroup")
    assert opaque["key"]


def test_a_card_names_an_opaque_network_by_the_id_of_nsx() -> None:
    card = vim.vm.device.VirtualEthernetCard
    backing = card.OpaqueNetworkBackingInfo(opaqueNetworkId="6f0e", opaqueNetworkType="nsx.LogicalSwitch")
    nsx = vim.OpaqueNetwork.Summary(name="web%2f1", accessible=True, opaqueNetworkId="6f0e", opaqueNetworkType="nsx")
    plain = vim.Network.Summary(name="VM Network", accessible=True)
    around = Surroundings(
        [
            Found("Network", "network-1", {"name": "VM Network", "summary": plain}),
            Found("OpaqueNetwork", "network-o2", {"name": "web%2f1", "summary": nsx}),
        ]
    )
    cards = [vim.vm.device.VirtualVmxnet3(key=4000, backing=backing)]
    assert [nic["network"] for nic in nics(cards, around)] == [{"id": "network-o2", "name": "web/1"}]
    unseen = nics(cards, Surroundings([]))  # the user may not see the network
    assert [nic["network"] for nic in unseen] == [{"id": "6f0e", "name": ""}]
    assert {thing.key: thing.document["key"] for thing in things(around)} == {"network-1": "", "network-o2": "6f0e"}


@pytest.mark.lab
def test_tags_and_custom_attributes_are_read_with_their_names(seen: Snapshot) -> None:
    web, other = seen.vm("web-1"), seen.vm("off-1")
    assert [tag["name"] for tag in web.document["tags"]] == ["production", "shop"]
    assert all(tag["id"] and tag["categoryID"] for tag in web.document["tags"])
    assert [(one["name"], one["value"]) for one in web.document["customValues"]] == [("owner", "jane")]
    assert (other.document["tags"], other.document["customValues"]) == ([], [])


@pytest.mark.lab
def test_tags_that_cannot_be_read_are_no_failure_and_undefined(
    connect: Callable[..., Connection], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tags, "_SESSION", "/rest/com/vmware/cis/nothing")
    with caplog.at_level(logging.WARNING), open_provider(connect()) as provider:
        (vm,) = snapshot(provider, ["off-1"]).vms
    assert "tags" not in vm.document
    assert "tags of VMs cannot be read: HTTP status" in caplog.text
    assert "canary" not in caplog.text


@pytest.mark.lab
def test_a_step_that_reads_a_vm_again_does_not_log_in_for_its_tags(
    connect: Callable[..., Connection], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # Whoever asks for tags at this address is refused, and the log says so.
    monkeypatch.setattr(tags, "_SESSION", "/rest/com/vmware/cis/nothing")
    with caplog.at_level(logging.WARNING), open_provider(connect()) as provider:
        (vm,) = provider.vms(["web-1"])
    assert "tags" not in vm.document
    assert "tags of VMs" not in caplog.text


BRIDGES = {
    "pcibridge0.pcislotnumber": "17",
    "pcibridge4.pcislotnumber": "21",
    "pcibridge4.functions": "8",
    "pcibridge5.pcislotnumber": "22",
    "pcibridge5.functions": "8",
    "pcibridge6.present": "TRUE",
    "pcibridge7.pcislotnumber": "-1",
}


@pytest.mark.parametrize(
    ("slot", "address"),
    [
        pytest.param(160, "0000:03:00.0", id="first-function-of-a-bridge"),
        pytest.param(1184, "0000:04:00.0", id="second-function"),
        pytest.param(192, "0000:0b:00.0", id="next-bridge"),
        pytest.param(33, "0000:02:01.0", id="bridge-of-one-function"),
        pytest.param(15, "0000:00:0f.0", id="no-bridge"),
        pytest.param(256, "", id="unknown-bridge"),
        pytest.param(-1, "", id="not-placed"),
        pytest.param(None, "", id="no-slot"),
    ],
)
def test_pci_addresses_follow_from_slot_numbers_and_bridges(slot: int | None, address: str) -> None:
    assert pci.address(slot, pci.bridges(BRIDGES)) == address


def test_bridges_without_a_place_are_left_out() -> None:
    assert pci.bridges(BRIDGES) == [
        {"number": 0, "slotNumber": 17, "functions": 1},
        {"number": 4, "slotNumber": 21, "functions": 8},
        {"number": 5, "slotNumber": 22, "functions": 8},
    ]
    assert pci.bridges(
        {"pcibridge0.pcislotnumber": "x", "pcibridge1.pcislotnumber": "18", "pcibridge1.functions": "?"}
    )[0] == {"number": 1, "slotNumber": 18, "functions": 1}


def test_vms_that_rules_of_a_cluster_tie_to_hosts_are_known_by_their_id() -> None:
    def rule(name: str, *, enabled: bool = True) -> vim.cluster.VmHostRuleInfo:
        return vim.cluster.VmHostRuleInfo(name=name, vmGroupName=name, enabled=enabled)

    def group(name: str, *ids: str) -> vim.cluster.VmGroup:
        return vim.cluster.VmGroup(name=name, vm=[vim.VirtualMachine(one, None) for one in ids])

    config = vim.cluster.ConfigInfoEx(
        rule=[rule("a"), rule("b", enabled=False), rule("none"), vim.cluster.AffinityRuleSpec(name="c")],
        group=[group("a", "vm-2", "vm-1"), group("b", "vm-3"), vim.cluster.HostGroup(name="h")],
    )
    cluster = Found("ClusterComputeResource", "domain-1", {"name": "cl", "configurationEx": config})
    document = Surroundings([cluster]).cluster("domain-1")
    assert document["hostAffinityVms"] == [{"id": "vm-1"}, {"id": "vm-2"}]
    host = Found("HostSystem", "host-1", {"name": "h", "parent": vim.ClusterComputeResource("domain-1", None)})
    around = Surroundings([cluster, host])
    of_vm = [around.host_of_vm("host-1", vm_id)["cluster"]["hostAffinityVms"] for vm_id in ("vm-1", "vm-3")]
    assert of_vm == [[{"id": "vm-1"}], []], "each VM's document names itself only"


def test_datastores_know_their_devices_or_their_server_and_clusters_the_vms_with_settings_of_their_own() -> None:
    vmfs = vim.host.VmfsDatastoreInfo(
        vmfs=vim.host.VmfsVolume(extent=[vim.host.ScsiDisk.Partition(diskName="naa.60", partition=1)])
    )
    nas = vim.host.NasDatastoreInfo(nas=vim.host.NasVolume(remoteHost="filer", remotePath="/vol/a"))
    vms = [vim.cluster.DasVmConfigInfo(key=vim.VirtualMachine("vm-7", None))]
    config = vim.cluster.ConfigInfoEx(dasVmConfig=vms)
    found = {
        thing.key: thing.document
        for thing in things(
            Surroundings(
                [
                    Found("Datastore", "ds-1", {"name": "a", "info": vmfs}),
                    Found("Datastore", "ds-2", {"name": "b", "info": nas}),
                    Found("ClusterComputeResource", "cl-1", {"name": "c", "configurationEx": config}),
                ]
            )
        )
    }
    assert found["ds-1"]["backingDevicesNames"] == ["naa.60"]
    assert found["ds-2"]["nas"] == {"host": "filer", "path": "/vol/a"}
    assert (found["cl-1"]["dasVms"], found["cl-1"]["drsVms"]) == (["vm-7"], [])
