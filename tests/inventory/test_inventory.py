"""Snapshots, tables, fingerprints and drift."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtv.inventory import drift, fingerprint, snapshot
from mtv.inventory.drift import size_in_words
from mtv.inventory.tables import DISK_COLUMNS, VM_COLUMNS, tables_of
from mtv.model.connection import Connection
from mtv.model.source import Firmware, PowerState, SourceDisk, SourceNic, SourceVm
from mtv.providers.ova.provider import OvaProvider

GIB = 1 << 30


def a_disk(number: int = 0, **changed) -> SourceDisk:
    fields = {
        "id": str(2000 + number),
        "index": number,
        "size_bytes": 20 * GIB,
        "bus": "scsi",
        "identity": f"u/{number}",
        "generation": "g1",
        "storage": "ds-gold",
    }
    return SourceDisk(**{**fields, **changed})


def a_vm(**changed) -> SourceVm:
    fields = {
        "provider": "vmware",
        "id": "vm-1",
        "name": "web-1",
        "uuid": "u",
        "power": PowerState.ON,
        "cpu_count": 2,
        "cores_per_socket": 1,
        "memory_bytes": 4 * GIB,
        "firmware": Firmware.BIOS,
        "host": "esx-1",
        "disks": (a_disk(0), a_disk(1)),
        "nics": (SourceNic(index=0, network="VM Network", mac="00:50:56:00:00:01"),),
    }
    return SourceVm(**{**fields, **changed})


def a_place(host: str, *, cluster: str = "cl-1", drs: str = "fullyAutomated") -> dict[str, Any]:
    inside = {"id": cluster, "name": cluster, "drsEnabled": bool(drs), "drsBehavior": drs}
    return {"host": {"id": host, "name": host, "cluster": inside}}


def test_what_a_running_guest_changes_by_itself_is_no_drift():
    running = a_vm()
    later = a_vm(disks=(a_disk(0, generation="g2", shared=True), a_disk(1, allocated_bytes=5)), document={"x": 1})
    assert drift(running, later) == []
    assert fingerprint(running) == fingerprint(later)


def test_a_disk_that_was_pinned_under_a_former_identity_is_no_drift():
    pinned = a_vm(disks=(a_disk(0, identity="by path"), a_disk(1)))
    now = a_vm(disks=(a_disk(0, identity="by uuid", former_identities=("by path",)), a_disk(1)))
    assert drift(pinned, now) == []
    other = a_vm(disks=(a_disk(0, identity="by uuid", former_identities=("other",)), a_disk(1)))
    assert drift(pinned, other) == ["disk 2000: identity was by path, is by uuid"]


def test_a_host_that_the_platform_itself_chooses_is_no_drift_but_another_cluster_is():
    here = a_vm(host="esx-1", document=a_place("esx-1"))
    assert drift(here, a_vm(host="esx-2", document=a_place("esx-2"))) == []
    assert drift(here, a_vm(host="esx-9", document=a_place("esx-9", cluster="cl-2"))) == [
        "host was any of cluster cl-1, is any of cluster cl-2"
    ]
    by_hand = a_vm(host="esx-1", document=a_place("esx-1", drs="manual"))
    assert drift(by_hand, a_vm(host="esx-2", document=a_place("esx-2", drs="manual"))) == ["host was esx-1, is esx-2"]


@pytest.mark.parametrize(("before", "now"), [(True, False), (False, True)])
def test_a_disk_that_was_taken_from_the_running_guest_or_given_back_is_drift(before, now):
    def with_second_disk(active: bool) -> SourceVm:
        rows = [{"active": True, "disk": {"id": "2000"}}, {"active": active, "disk": {"id": "2001"}}]
        return a_vm(document={"diskAttachments": rows})

    words = {True: "in use", False: "deactivated"}
    assert drift(with_second_disk(before), with_second_disk(now)) == [
        f"disk 2001: state was {words[before]}, is {words[now]}"
    ]


def test_a_server_that_the_operators_of_openstack_moved_has_not_drifted():
    assert drift(a_vm(provider="openstack", host="a1"), a_vm(provider="openstack", host="b2")) == []


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"disks": (a_disk(0, size_bytes=40 * GIB), a_disk(1))}, ["disk 2000: size was 20 GiB, is 40 GiB"]),
        ({"disks": (a_disk(0),)}, ["disk 2001 (20 GiB) is gone"]),
        ({"disks": (a_disk(0), a_disk(1), a_disk(2))}, ["disk 2002 (20 GiB on ds-gold) is new"]),
        ({"firmware": Firmware.EFI}, ["firmware was bios, is efi"]),
        ({"memory_bytes": 8 * GIB}, ["memory was 4 GiB, is 8 GiB"]),
        ({"nics": ()}, ["network card 1 (00:50:56:00:00:01 on VM Network) is gone"]),
        (
            {"nics": (SourceNic(index=0, network="dvpg-app", mac="00:50:56:00:00:01"),)},
            ["network card 1: network was VM Network, is dvpg-app"],
        ),
        ({"is_template": True}, ["kind was VM, is template"]),
        ({"power": PowerState.OFF}, ["power was on, is off"]),
        ({"host": "esx-2"}, ["host was esx-1, is esx-2"]),
        ({"document": {"snapshot": {"id": "snapshot-1"}}}, ["snapshots was empty, is snapshot-1"]),
        ({"document": {"changeTrackingEnabled": True}}, ["change tracking was empty, is on"]),
        (
            {"document": {"disks": [{"key": 2000, "changeTrackingEnabled": False}]}},
            ["disk 2000: change tracking was empty, is off"],
        ),
    ],
)
def test_drift_is_told_in_words(changed, words):
    assert drift(a_vm(), a_vm(**changed)) == words


_CHANGES = {
    "cpu_count": st.integers(1, 3),
    "secure_boot": st.booleans(),
    "host": st.sampled_from(["a", "b"]),
    "power": st.sampled_from(list(PowerState)),
    "disks": st.lists(st.integers(0, 3), unique=True).map(lambda numbers: tuple(a_disk(n) for n in numbers)),
    "nics": st.lists(st.sampled_from(["x", "y"]), max_size=2).map(
        lambda names: tuple(SourceNic(index=i, network=n, mac="") for i, n in enumerate(names))
    ),
    "document": st.fixed_dictionaries(
        {},
        optional={
            "snapshots": st.lists(
                st.fixed_dictionaries({"id": st.sampled_from("pq"), "type": st.sampled_from(["active", "regular"])})
            ),
            "changeTrackingEnabled": st.booleans() | st.none(),
            "disks": st.lists(
                st.fixed_dictionaries({"key": st.integers(2000, 2003), "changeTrackingEnabled": st.booleans()})
            ),
            "host": st.sampled_from([a_place("a")["host"], a_place("b", drs="manual")["host"], {"id": "a"}, None]),
        },
    ),
}


@given(st.fixed_dictionaries(_CHANGES), st.fixed_dictionaries(_CHANGES))
def test_the_fingerprint_differs_exactly_when_drift_has_something_to_say(one, other):
    before, now = a_vm(**one), a_vm(**other)
    same_disks = {disk.id for disk in before.disks} == {disk.id for disk in now.disks}
    assert (fingerprint(before) == fingerprint(now)) == (drift(before, now) == [])
    if not same_disks:
        assert drift(before, now)


@given(st.integers(0, 1 << 60))
def test_a_size_in_words_never_hides_a_byte(size):
    words = size_in_words(size)
    if "bytes" in words:
        assert f"({size} bytes)" in words
    else:
        number, unit = words.split()
        assert float(number) * 1024 ** ("B", "KiB", "MiB", "GiB", "TiB", "PiB").index(unit) == size


def test_tables_are_typed_and_keep_large_sizes_exact():
    vms, disks, nics, *_ = tables_of([a_vm(disks=(a_disk(0, size_bytes=(1 << 53) + 1), a_disk(1, allocated_bytes=5)))])
    assert {name: str(kind) for name, kind in vms.dtypes.items()}.keys() == VM_COLUMNS.keys()
    assert disks["size_bytes"].tolist() == [(1 << 53) + 1, 20 * GIB]
    assert disks["allocated_bytes"].isna().tolist() == [True, False]
    assert vms["disk_bytes"].tolist() == [(1 << 53) + 1 + 20 * GIB]
    assert nics["connected"].tolist() == [True]
    assert vms.set_index("vm_id").index.is_unique


def test_empty_tables_have_their_columns():
    tables = tables_of([])
    assert (list(tables.vms), list(tables.disks)) == (list(VM_COLUMNS), list(DISK_COLUMNS))
    assert all(len(table) == 0 and len(table.columns) > 1 for table in tables)
    assert str(tables.disks["size_bytes"].dtype) == "Int64"


def test_what_vms_stand_on_is_listed_once_and_what_a_source_does_not_know_is_null():
    document = {
        **a_place("esx-1"),
        "guestNetworks": [{"device": "0", "mac": "m", "ip": "10.0.0.1", "prefix": 24, "origin": "manual"}],
        "guestDisks": [{"diskPath": "/", "capacity": 1 << 60, "freeSpace": 5}],
        "devices": [{"kind": "VirtualTPM", "key": 11000}],
        "snapshot": {"kind": "VirtualMachineSnapshot", "id": "snapshot-1"},
        "disks": [{"key": 2000, "datastore": {"id": "datastore-1", "name": "ds-gold"}}, "misshapen"],
        "networks": [{"id": "network-1", "name": "VM Network"}, {"id": "", "name": "lost"}],
    }
    tables = tables_of([a_vm(document=document), a_vm(id="vm-2", document=document), a_vm(id="vm-3")])
    assert tables.hosts.to_dict("records")[0]["cluster_id"] == "cl-1"
    assert tables.hosts["in_maintenance"].isna().tolist() == [True]
    assert tables.clusters["drs_enabled"].tolist() == [True]
    assert (tables.datastores["name"].tolist(), tables.networks["name"].tolist()) == (["ds-gold"], ["VM Network"])
    assert tables.guest_networks["prefix"].tolist() == [24, 24]
    assert tables.guest_disks["capacity_bytes"].tolist() == [1 << 60] * 2
    assert tables.devices["device_id"].tolist() == ["11000"] * 2
    assert tables.snapshots.set_index(["vm_id", "snapshot_id"]).index.is_unique


def test_a_snapshot_tells_what_is_missing(tmp_path):
    provider = OvaProvider(Connection(conn_id="c", conn_type="ova", extra={"path": str(tmp_path)}))
    seen = snapshot(provider, ["b", "a", "b"])
    assert (seen.vms, seen.missing) == ((), ("a", "b"))
    assert len(seen.tables.vms) == 0


def test_a_vm_survives_its_way_through_json():
    vm = a_vm()
    assert fingerprint(msgspec.json.decode(msgspec.json.encode(vm), type=SourceVm)) == fingerprint(vm)
