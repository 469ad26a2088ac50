from __future__ import annotations

from typing import Any

import pytest

from mtv.kubevirt import mapping
from mtv.model.errors import PermanentError
from mtv.model.plan import EffectiveVm, NetworkTarget, Plan, StorageTarget, Target
from tests.kubevirt.values import disk, nic, source_vm

GOLD = StorageTarget(storage_class="ceph", volume_mode="Block", access_mode="ReadWriteMany")


def plan(**changes: Any) -> Plan:
    return Plan(name="p", target=Target(connection="c", namespace="n"), waves=(), **changes)


def vm(**changes: Any) -> EffectiveVm:
    return EffectiveVm(id="web-1", name="web-1", source="v", target_name="web-1", **changes)


def test_a_disk_goes_where_its_datastore_is_mapped() -> None:
    assert mapping.storage_target(plan(storage_map={"ds-gold": GOLD}), vm(), disk()) == GOLD


def test_any_other_datastore_goes_where_the_star_says() -> None:
    star = StorageTarget(storage_class="standard")
    assert mapping.storage_target(plan(storage_map={"ds-gold": GOLD, "*": star}), vm(), disk(storage="x")) == star


def test_the_vms_own_class_wins_and_does_not_take_the_modes_of_another() -> None:
    found = mapping.storage_target(plan(storage_map={"ds-gold": GOLD}), vm(storage_class="fast"), disk())
    assert found == StorageTarget(storage_class="fast")


def test_the_vms_volume_mode_wins() -> None:
    found = mapping.storage_target(plan(storage_map={"ds-gold": GOLD}), vm(volume_mode="Filesystem"), disk())
    assert (found.storage_class, found.volume_mode) == ("ceph", "Filesystem")


def test_an_unmapped_datastore_is_named() -> None:
    with pytest.raises(PermanentError, match="ds-gold"):
        mapping.storage_target(plan(), vm(), disk())


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("pod", NetworkTarget(type="pod")),
        ("ignored", NetworkTarget(type="ignored")),
        ("demo/app", NetworkTarget(type="multus", name="demo/app")),
    ],
)
def test_the_vms_network_option_wins_over_the_map(option: str, expected: NetworkTarget) -> None:
    mapped = {"VM Network": NetworkTarget(type="multus", name="other")}
    assert mapping.network_target(plan(network_map=mapped), vm(network=option), nic()) == expected


def test_an_unmapped_network_is_named() -> None:
    with pytest.raises(PermanentError, match="VM Network"):
        mapping.network_target(plan(), vm(), nic())


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [("", 0), ("1", 1), ("disk-2001", 1), ("/dev/sdb", 1), ("/dev/sdb2", 1), ("/dev/vda", 0)],
)
def test_the_root_disk_is_found_by_id_index_or_device(wanted: str, expected: int) -> None:
    assert mapping.root_disk(source_vm(), wanted).index == expected


def test_a_root_disk_that_is_none_is_refused_with_those_there_are() -> None:
    with pytest.raises(PermanentError, match=r"disk-2000, disk-2001"):
        mapping.root_disk(source_vm(), "/dev/sdc")


@pytest.mark.parametrize(("wanted", "expected"), [("", ""), ("/dev/sdb", ""), ("/dev/sdb2", "/dev/sda2"), ("1", "")])
def test_a_root_partition_is_named_as_on_the_first_disk(wanted: str, expected: str) -> None:
    assert mapping.root_partition(wanted) == expected
