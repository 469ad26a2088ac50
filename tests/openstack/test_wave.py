"""A wave of one server by its steps, without Airflow; all else is real: services, TLS, cluster, mover, and a boot."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openstack
import pytest

from lab.demo.summary import run_of_each, summarise
from lab.guests.image import GuestImage, guest_image
from lab.guests.spec import GuestSpec
from mtv.kubevirt import labels
from mtv.kubevirt.resources import INSTANCES, PODS, SECRETS, VIRTUAL_MACHINES, Kind
from mtv.model.evidence import EvidenceKind, VmPhase
from mtv.model.plan import BootProof, NetworkTarget, PlannedVm, StorageTarget
from mtv.model.source import PowerState
from mtv.model.transfer import Proof
from mtv.steps import convert, create_vm, prepare, run, settle, verify
from mtv.steps.context import RunContext, VmContext
from mtv.store import Store
from tests.openstack.kit import connection, made, password
from tests.steps.conftest import through_validation
from tests.steps.lab_runs import LabRuns, copy_disks, document

pytestmark = [pytest.mark.openstack, pytest.mark.lab, pytest.mark.guest, pytest.mark.timeout(1800)]

NAME = "cloud-1"
RULES = Path(__file__).parents[2] / "include" / "validation_rules"


@pytest.fixture
def guest() -> GuestImage:
    """A guest with the drivers that it had on OpenStack, and files on both disks whose sums it tells when it boots."""
    spec = GuestSpec(hostname=NAME, root_mb=128, payload_mb=2, data_mb=16, data_payload_mb=4, virtio=True)
    return guest_image(spec)


@pytest.fixture
def server(cloud: dict[str, Any], user: openstack.connection.Connection, guest: GuestImage) -> Iterator[Any]:
    """A server with the guest's disks as its volumes; it goes with them."""
    images: list[Any] = []
    volumes: list[Any] = []
    found: list[Any] = []
    try:
        for content, kind in zip(guest.disks, ("gold", "silver"), strict=True):
            with content.open("rb") as data:
                images.append(
                    user.image.create_image(f"{NAME}-{kind}", data=data, disk_format="raw", container_format="bare")
                )
            volumes.append(
                user.block_storage.create_volume(name=NAME, size=1, volume_type=kind, image_id=images[-1].id)
            )
        for volume in volumes:
            user.block_storage.wait_for_status(volume, "available", failures=["error"], interval=0.3, wait=300)
        boot = {"source_type": "volume", "destination_type": "volume", "delete_on_termination": False}
        found.append(
            user.compute.create_server(
                name=NAME,
                flavor_id=cloud["flavors"]["small"],
                networks=[{"uuid": cloud["networks"]["blue"]}],
                block_device_mapping=[
                    {**boot, "boot_index": 0, "uuid": volumes[0].id},
                    {**boot, "boot_index": -1, "uuid": volumes[1].id},
                ],
            )
        )
        yield user.compute.wait_for_server(found[0], "ACTIVE", interval=0.3, wait=300)
    finally:
        for each in found:
            user.compute.delete_server(each)
            user.compute.wait_for_delete(each, interval=0.3, wait=300)
        for volume in volumes:
            user.block_storage.delete_volume(volume)
        for image in images:
            user.image.delete_image(image)


@pytest.fixture
def runs(cloud: dict[str, Any], lab: Any, store: Store, tmp_path: Path) -> Iterator[LabRuns]:
    with LabRuns(lab, store, connection(cloud), rules=RULES, state=tmp_path / "state") as opened:
        yield opened


def start(runs: LabRuns, dag_run: str) -> RunContext:
    storage = StorageTarget(storage_class="lab-fs", volume_mode="Filesystem")
    proof = BootProof(marker=f"MTV-BOOT-OK {NAME} disk-driver=virtio_blk", timeout_s=300)
    return runs.start(
        PlannedVm(id=NAME, name=NAME, boot_proof=proof),
        dag_run=dag_run,
        network_map={"blue": NetworkTarget(type="pod")},
        storage_map={"gold": storage, "silver": storage},
    )


def left_of(vm: VmContext, *kinds: Kind) -> list[str]:
    """Names of the plan's objects, without the pods in which KubeVirt runs its machines."""
    with vm.cluster() as cluster:
        found = [
            item["metadata"] for kind in kinds for item in cluster.find(kind, vm.namespace, {labels.PLAN: "steps"})
        ]
    return [item["name"] for item in found if "kubevirt.io" not in item["labels"]]


def test_a_server_with_two_volumes_is_migrated_as_it_is_and_its_guest_proves_every_file(
    cloud: dict[str, Any],
    user: openstack.connection.Connection,
    guest: GuestImage,
    server: Any,
    runs: LabRuns,
    store: Store,
) -> None:
    before = made(user)

    # A run that ends before its copy: the server runs again.
    vm = through_validation(start(runs, "r1"), NAME)
    prepare.prepare(vm)
    assert document(vm, EvidenceKind.POWER)["method"] == "power off"
    assert user.compute.get_server(server.id).status == "SHUTOFF"
    settle.settle(vm)
    settled = document(vm, EvidenceKind.SETTLED)
    assert (settled["outcome"], settled["source_power"]) == ("rolled back", PowerState.ON)
    assert user.compute.get_server(server.id).status == "ACTIVE"

    started = start(runs, "r2")
    vm = through_validation(started, NAME)
    prepare.prepare(vm)
    request = copy_disks(vm)
    assert len(made(user) - before) == 2, "an image of each volume; what they were made by is gone already"
    assert set(request.secret_files) == {"spec.json", "user", "password", "ca.pem"}
    assert password(cloud) not in request.secret_files["spec.json"]
    copied = document(vm, EvidenceKind.TRANSFER)["disks"]
    assert [disk["proof"] for disk in copied] == [Proof.SOURCE_CHECKED, Proof.SOURCE_CHECKED]
    assert convert.pod_request(vm) is None, "it ran on KVM already"
    create_vm.create_vm(vm)
    verify.verify(vm)
    settle.settle(vm)
    run.verdict(started)

    [summary] = summarise(store, run_of_each(store, vm.run.id), {NAME: guest.payload})
    assert summary.is_proven, summary
    assert store.vm("steps", NAME).phase is VmPhase.MIGRATED
    assert document(vm, EvidenceKind.TARGET_VM)["run_strategy"] == "Always"
    assert left_of(vm, VIRTUAL_MACHINES, INSTANCES) == [NAME, NAME]
    assert left_of(vm, PODS, SECRETS) == []
    assert made(user) == before
    assert user.compute.get_server(server.id).status == "SHUTOFF"
