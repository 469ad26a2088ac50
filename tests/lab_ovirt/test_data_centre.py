"""The lab's engine tells its data centre as an engine does, to oVirt's own SDK."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import ovirtsdk4
import pytest
from ovirtsdk4 import types

from lab.cluster.pki import Authority
from lab.ovirt.engine import USER, ThinEngine
from lab.ovirt.faults import Deed
from lab.ovirt.sample import data_centre


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ThinEngine, ovirtsdk4.Connection]]:
    folder = tmp_path_factory.mktemp("engine")
    engine = ThinEngine(Authority.create(folder / "pki"), None, "secret", data_centre(load=15))
    engine.start()
    url = f"https://127.0.0.1:{engine.port}/ovirt-engine/api"
    connection = ovirtsdk4.Connection(
        url=url, username=USER, password="secret", ca_file=str(folder / "pki" / "ca.crt"), timeout=30
    )
    yield engine, connection
    connection.close()
    engine.stop()


@pytest.fixture
def engine(running: tuple[ThinEngine, ovirtsdk4.Connection]) -> Iterator[ThinEngine]:
    yield running[0]
    running[0].faults.clear()


@pytest.fixture
def vms(running: tuple[ThinEngine, ovirtsdk4.Connection]) -> Any:
    return running[1].system_service().vms_service()


def names(found: list[Any]) -> list[str]:
    return [each.name for each in found]


def test_pages_are_cut_from_the_names_in_order(engine: ThinEngine, vms: Any) -> None:
    pages = [names(vms.list(search=f"sortby name page {number}", max=10)) for number in (1, 2, 3, 4)]
    assert [len(page) for page in pages] == [10, 10, 7, 0]
    assert [name for page in pages for name in page] == sorted(vm.name for vm in engine.estate.objects["vms"].values())


def test_a_search_knows_no_case_and_several_names(vms: Any) -> None:
    found = vms.list(search='name="WEB-1" or name=off-1 sortby name page 1', max=10)
    assert names(found) == ["off-1", "web-1"]


def test_what_lies_below_a_vm_is_told_only_when_it_is_followed(vms: Any) -> None:
    (bare,) = vms.list(search="name=web-1")
    assert bare.nics is None
    (whole,) = vms.list(search="name=web-1", follow="nics,disk_attachments.disk,snapshots")
    assert len(whole.nics) == 2
    assert {attachment.disk.name for attachment in whole.disk_attachments} >= {"web-1_Disk1"}
    assert [snapshot.description for snapshot in whole.snapshots] == ["Active VM"]
    service = vms.vm_service(whole.id)
    assert names(service.nics_service().list()) == names(whole.nics)


def test_numa_nodes_and_their_ties_are_a_list_of_their_own(vms: Any) -> None:
    (odd,) = vms.list(search="name=odd_1")
    (node,) = vms.vm_service(odd.id).numa_nodes_service().list()
    assert [pin.index for pin in node.numa_node_pins] == [1]


def test_all_collections_are_told(running: tuple[ThinEngine, ovirtsdk4.Connection]) -> None:
    system = running[1].system_service()
    assert names(system.clusters_service().list()) == ["cluster1", "cluster2"]
    assert names(system.vnic_profiles_service().list()) == ["mgmt", "app", "odd"]
    assert len(system.hosts_service().list()) == 3
    assert system.get().summary.vms.total == 27


def test_actions_in_the_wrong_state_are_refused_and_states_change_with_time(vms: Any) -> None:
    (vm,) = vms.list(search="name=off-1")
    service = vms.vm_service(vm.id)
    with pytest.raises(ovirtsdk4.Error) as refused:
        service.shutdown()
    assert refused.value.code == 409
    service.start()
    assert service.get().status is types.VmStatus.UP
    service.shutdown()
    assert service.get().status is types.VmStatus.DOWN


def test_a_part_that_is_forbidden_cannot_be_followed_either(engine: ThinEngine, vms: Any) -> None:
    engine.faults.forbidden.add("vms/*/nics")
    assert vms.list(search="name=web-1")
    for ask in (
        lambda: vms.list(search="name=web-1", follow="nics"),
        lambda: vms.vm_service(engine.estate.vm("web-1").id).nics_service().list(),
    ):
        with pytest.raises(ovirtsdk4.AuthError) as refused:
            ask()
        assert refused.value.code == 403


@pytest.mark.parametrize("deed", [Deed.DROP, Deed.CUT], ids=str)
def test_a_broken_connection_is_no_answer(engine: ThinEngine, running: Any, vms: Any, deed: Deed) -> None:
    engine.faults.plan("^vms$", deed, count=2)  # curl itself asks again where a kept connection was closed
    with pytest.raises(ovirtsdk4.Error) as lost:
        vms.list()
    assert lost.value.code is None
    engine.faults.clear()
    assert running[1].system_service().vms_service().list(max=1)


def test_a_login_that_ended_is_renewed_by_the_sdk(engine: ThinEngine, vms: Any) -> None:
    assert vms.list(max=1)  # the first request of a connection logs in
    before = engine.calls["login"]
    engine.faults.plan("^vms$", Deed.EXPIRE)
    assert vms.list(max=1)
    assert engine.calls["login"] == before + 1
