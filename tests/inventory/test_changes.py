"""What changed between two moments of an inventory, in words."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtv.inventory.changes import in_words, vm_changes
from mtv.inventory.history import changes_between, objects_of, record, vms_at
from mtv.inventory.progress import spoken
from mtv.model.source import PowerState, SourceNic, SourceVm, Thing
from mtv.store import InventoryChange, Store
from tests.inventory.test_inventory import GIB, a_disk, a_place, a_vm


def changes(before: SourceVm, now: SourceVm) -> list[str]:
    return vm_changes(msgspec.to_builtins(before), msgspec.to_builtins(now))


def doc(**attributes: Any) -> dict[str, Any]:
    return {"document": attributes}


@pytest.mark.parametrize(
    ("before", "now", "words"),
    [
        ({}, {"memory_bytes": 8 * GIB}, ["memory 4096 → 8192 MiB"]),
        ({}, {"disks": (a_disk(0), a_disk(1), a_disk(2))}, ["disk 2002 added (20 GiB)"]),
        ({}, {"disks": (a_disk(0),)}, ["disk 2001 removed (20 GiB)"]),
        ({}, {"disks": (a_disk(0, size_bytes=40 * GIB), a_disk(1))}, ["disk 2000: size 20 GiB → 40 GiB"]),
        ({}, {"disks": (a_disk(0, identity="x"), a_disk(1))}, ["disk 2000: it is another disk now"]),
        ({}, {"disks": (a_disk(0, identity="x", former_identities=("u/0",)), a_disk(1))}, []),
        ({}, {"power": PowerState.OFF, "secure_boot": True}, ["power on → off", "secure boot no → yes"]),
        ({}, {"nics": ()}, ["network card 1 removed (00:50:56:00:00:01 on VM Network)"]),
        (
            {},
            {"nics": (SourceNic(index=0, network="dvpg", mac="00:50:56:00:00:01"),)},
            ["network card 1: network VM Network → dvpg"],
        ),
        (doc(snapshot={"id": ""}), doc(snapshot={"id": "snapshot-1"}), ["snapshot none → snapshot-1"]),
        (doc(), doc(cpuHotAddEnabled=True), ["cpu hot add enabled none → yes"]),
        (
            doc(disks=[{"key": 2000, "mode": "persistent"}]),
            doc(disks=[{"key": 2000, "mode": "independent_persistent"}]),
            ["disk 2000: mode persistent → independent_persistent"],
        ),
        (
            doc(guestNetworks=[{"mac": "m1", "ip": "10.0.0.1"}]),
            doc(guestNetworks=[{"mac": "m1", "ip": "10.0.0.2"}]),
            ["guest networks m1: ip 10.0.0.1 → 10.0.0.2"],
        ),
        (
            doc(guestDisks=[{"diskPath": "/", "freeSpace": 1}], balloonedMemory=0),
            doc(guestDisks=[{"diskPath": "/", "freeSpace": 2}], balloonedMemory=9),
            [],
        ),
        ({}, {"disks": (a_disk(0, generation="g2"), a_disk(1, allocated_bytes=7))}, []),
        ({"host": "a1", **doc(hostID="a1")}, {"host": "b2", **doc(hostID="b2")}, ["host a1 → b2"]),
        # A thing that VMs stand on has a line of its own, so its state is no change of the VM.
        (doc(**a_place("esx-1")), doc(**a_place("esx-1", drs="manual")), []),
    ],
)
def test_a_vm_s_changes_are_told_in_words(before: dict[str, Any], now: dict[str, Any], words: list[str]) -> None:
    assert changes(a_vm(**before), a_vm(**now)) == words


def test_what_the_user_may_no_longer_read_is_told_as_that_and_not_as_removed() -> None:
    whole = a_vm(document={"nics": [{"mac": "m"}], "snapshots": [{"id": "s"}], "status": "up", "unreadable": []})
    less = a_vm(nics=(), document={"status": "up", "unreadable": ["nics", "snapshots"]})
    assert changes(whole, less) == ["the user may not read any more: nics, snapshots"]
    assert changes(less, whole) == ["the user may read again: nics, snapshots"]
    blind = a_vm(disks=(), document={"unreadable": ["disk_attachments"]})
    assert changes(a_vm(document={"diskAttachments": [], "unreadable": []}), blind) == [
        "the user may not read any more: disk_attachments"
    ]


def test_a_network_whose_name_may_not_be_read_is_no_change_of_its_cards() -> None:
    nameless = SourceNic(index=0, network="", mac="00:50:56:00:00:01")
    other = msgspec.structs.replace(nameless, mac="00:50:56:00:00:02")
    seen = a_vm(document={"unreadable": []})
    assert changes(seen, a_vm(nics=(nameless,), host="", document={"unreadable": ["networks", "hosts"]})) == [
        "the user may not read any more: hosts, networks"
    ]
    assert changes(seen, a_vm(nics=(other,), document={"unreadable": ["networks"]})) == [
        "network card 1: MAC address 00:50:56:00:00:01 → 00:50:56:00:00:02",
        "the user may not read any more: networks",
    ]
    assert changes(seen, a_vm(nics=(nameless,), document={"unreadable": []})) == [
        "network card 1: network VM Network → none"
    ]


def test_one_of_a_thing_is_told_as_one() -> None:
    (vm,) = objects_of([a_vm(cpu_count=1, disks=(a_disk(0),))])
    assert in_words(InventoryChange(kind="vm", key="vm-1", before=None, now=vm)) == (
        "vm web-1 is new (1 CPU, 4096 MiB, 1 disk of 20 GiB)"
    )


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["id", "key", "x"]), inner, max_size=3),
    max_leaves=8,
)
_DOCUMENT = st.dictionaries(st.sampled_from(["disks", "snapshot", "tags", "flags"]), _JSON, max_size=4)


@given(_DOCUMENT, _DOCUMENT)
def test_documents_of_any_shape_can_be_told_apart(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert changes(a_vm(document=one), a_vm(document=one)) == []
    for phrase in changes(a_vm(document=one), a_vm(document=other)):
        assert len(phrase) < 400


def test_objects_that_come_and_go_are_told_with_their_size() -> None:
    (vm,) = objects_of([a_vm()])
    assert in_words(InventoryChange(kind="vm", key="vm-1", before=None, now=vm)) == (
        "vm web-1 is new (2 CPUs, 4096 MiB, 2 disks of 40 GiB)"
    )
    assert in_words(InventoryChange(kind="vm", key="vm-1", before=vm, now=None)).startswith("vm web-1 is gone (2 CPUs")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    opened = Store.open(f"sqlite:///{tmp_path / 's.sqlite'}")
    opened.upgrade()
    return opened


def test_a_source_s_history_is_told_and_read_back_as_it_was(store: Store) -> None:
    first = [a_vm(document=a_place("esx-1")), a_vm(id="vm-2", name="db-1")]
    second = [a_vm(memory_bytes=8 * GIB, document=a_place("esx-2")), a_vm(id="vm-3", name="new-1")]
    one = record(store, "vc", first)
    assert (one.before, one.changes) == (None, ())
    two = record(store, "vc", second, keep=timedelta(days=1))
    assert two.changes == (
        "host esx-1 is gone",
        "host esx-2 is new",
        "vm db-1 is gone (2 CPUs, 4096 MiB, 2 disks of 40 GiB)",
        "vm new-1 is new (2 CPUs, 4096 MiB, 2 disks of 40 GiB)",
        "vm web-1: memory 4096 → 8192 MiB",
    )
    assert vms_at(store, one.moment) == first
    assert vms_at(store, two.moment, name="new-1") == [second[1]]
    assert changes_between(store, one.moment, two.moment) == list(two.changes)
    assert record(store, "vc", second).changes == ()
    store.close()


def test_progress_is_said_now_and_then_only() -> None:
    said: list[str] = []
    moments = iter([0.0, 1.0, 5.5, 6.0, 11.0])
    told = spoken(said.append, "vc", clock=lambda: next(moments))
    for done in (100, 200, 300, 5000):
        told(done, 5000)
    assert said == ["vc: 200 of 5,000 VMs read", "vc: 5,000 of 5,000 VMs read"]


def test_changes_are_told_in_the_order_of_names(store: Store) -> None:
    names = {"vm-3": "app-1", "vm-2": "Db-1", "vm-1": "web-1"}
    record(store, "vc", [a_vm(id=key, name=name) for key, name in names.items()])
    told = record(store, "vc", [a_vm(id=key, name=name, memory_bytes=8 * GIB) for key, name in names.items()]).changes
    assert [line.split(":")[0] for line in told] == ["vm app-1", "vm Db-1", "vm web-1"]


def test_things_that_the_user_may_no_longer_list_are_not_gone(store: Store) -> None:
    networks, host = [Thing("network", "n-1", "app", {})], Thing("host", "h-1", "esx-1", {})
    record(store, "rhv", [a_vm(document={"unreadable": []})], listed=[*networks, host])
    told = record(store, "rhv", [a_vm(document={"unreadable": ["networks"]})], listed=[]).changes
    assert told == ("host esx-1 is gone", "vm web-1: the user may not read any more: networks")
    told = record(store, "rhv", [a_vm(document={"unreadable": []})], listed=networks).changes
    assert told == ("vm web-1: the user may read again: networks",)
