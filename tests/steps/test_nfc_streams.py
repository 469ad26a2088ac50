"""VMs that are read by NFC share the streams of their ESXi host, over plans; whoever finds none left waits."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mtv.kubevirt.pods import PodRequest
from mtv.model.connection import Connection
from mtv.model.source import SourceDisk, SourceVm
from mtv.model.transfer import DiskSource, TransferSpec, Vddk, VsphereDatastore, VsphereNfc
from mtv.steps import prepare, run, settle, transfer
from mtv.steps.context import VmContext
from mtv.store import NfcStreamsTaken, Store
from tests.kubevirt.values import disk, source_vm
from tests.steps.conftest import begin, plan_of, through_validation
from tests.steps.world import MemoryProvider, World

NFC = VsphereNfc(host="vc", vm="vm-1", disk_key=2000)
VDDK = Vddk(host="vc", vm="vm-1", file="[ds] a/a.vmdk", thumbprint="")
DATASTORE = VsphereDatastore(host="vc", datacenter="dc", datastore="ds", path="a/a-flat.vmdk")


class NfcProvider(MemoryProvider):
    """The source in memory, whose disks are exported."""

    def disk_source(self, vm: SourceVm, disk: SourceDisk, *, transport: str = "auto") -> DiskSource:
        return VsphereNfc(host="vc", vm=vm.id, disk_key=disk.index)


class Vm:
    """The one VM of a plan of its own, with a source, a target and an ESXi host in memory."""

    def __init__(self, store: Store, folder: Path, plan: str, *, disks: int = 10, host: str = "esx1.dc") -> None:
        self.store, self.folder, self.count = store, folder, 0
        disks_of_it = tuple(disk(index) for index in range(disks))
        self.world = World(source_vm(id=f"vm-{plan}", host=host, disks=disks_of_it))
        one = plan_of()
        waves = (one.waves[0].model_copy(update={"max_vms_in_flight": 1}),)
        self.plan = one.model_copy(update={"name": plan, "waves": waves})
        self.ctx = self.new_run()

    def new_run(self) -> VmContext:
        self.count += 1
        name = f"{self.plan.name}-{self.count}"
        started = begin(self.store, self.world, self.folder, dag_run=name, plan=self.plan)

        def open_provider(connection: Connection) -> Any:
            return NfcProvider(self.world, connection)

        ctx = through_validation(dataclasses.replace(started, open_provider=open_provider))
        prepare.prepare(ctx)
        return ctx

    def request(self) -> PodRequest:
        found = transfer.pod_request(self.ctx)
        assert found is not None
        return found

    def streams(self) -> int:
        return msgspec.json.decode(self.request().secret_files["spec.json"], type=TransferSpec).connections


@pytest.mark.parametrize(
    ("in_flight", "sources", "wanted"),
    [
        (1, [NFC], 1),
        (1, [NFC, NFC, NFC], 3),
        (1, [VDDK], 10),
        (4, [DATASTORE, NFC], 2),
        (5, [NFC, NFC, NFC], 2),
        (40, [NFC, NFC], 1),
    ],
)
def test_a_vm_asks_for_its_share_of_a_host_and_an_export_for_no_more_streams_than_disks(
    in_flight: int, sources: list[Any], wanted: int
) -> None:
    wave = plan_of().waves[0].model_copy(update={"max_vms_in_flight": in_flight})
    assert transfer.nfc_streams_wanted(wave, sources) == wanted


def test_a_vm_of_another_plan_gets_what_is_left_of_its_host_and_one_of_another_host_all(
    store: Store, tmp_path: Path
) -> None:
    assert Vm(store, tmp_path, "a", disks=7).streams() == 7
    assert Vm(store, tmp_path, "b", disks=7, host="ESX1.dc").streams() == 3
    assert Vm(store, tmp_path, "c", disks=7, host="esx2.dc").streams() == 7


def test_a_vm_that_finds_no_stream_waits_without_a_failure_and_goes_on_when_another_is_copied(
    store: Store, tmp_path: Path
) -> None:
    first, second = Vm(store, tmp_path, "a"), Vm(store, tmp_path, "b")
    request = first.request()
    for _ in range(2):
        with pytest.raises(NfcStreamsTaken, match=r"taken by a/web-1 \(10\)"):
            second.request()
    rows = [(row.step, row.state) for row in store.steps(second.ctx.run.id) if row.step == "transfer"]
    assert rows == [("transfer", "running")]
    transfer.finish(first.ctx, first.world.run_pod(request))
    transfer.finish(second.ctx, second.world.run_pod(second.request()))
    assert store.nfc_streams("esx1.dc") == {}


def test_a_copy_that_failed_keeps_no_stream_until_it_is_tried_again(store: Store, tmp_path: Path) -> None:
    vm = Vm(store, tmp_path, "a")
    request = vm.request()
    with pytest.raises(Exception, match="cannot read"):
        transfer.finish(vm.ctx, vm.world.run_pod(request, fails=True))
    assert store.nfc_streams("esx1.dc") == {}
    assert vm.streams() == 10


def test_a_run_marked_failed_while_its_pod_copies_keeps_no_stream(store: Store, tmp_path: Path) -> None:
    vm = Vm(store, tmp_path, "a")
    vm.request()
    settle.settle(vm.ctx)
    assert Vm(store, tmp_path, "b").streams() == 10


def test_a_run_that_died_with_its_worker_keeps_its_streams_until_the_next_one_has_seen_its_pods_gone(
    store: Store, tmp_path: Path
) -> None:
    dead, other = Vm(store, tmp_path, "a"), Vm(store, tmp_path, "b")
    dead.request()
    run.close(dead.ctx)
    with pytest.raises(NfcStreamsTaken):
        other.request()  # nobody has looked yet whether its pod still reads
    dead.ctx = dead.new_run()
    assert store.nfc_streams("esx1.dc") == {}
    assert other.streams() == 10
