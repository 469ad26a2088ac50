"""A wave of one server by its steps, without Airflow; all else is real: services, TLS, cluster, mover, and a boot."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openstack
import pytest

from lab.demo.summary import summarise
from lab.guests.image import GuestImage, guest_image
from lab.guests.spec import GuestSpec
from mtv.kubevirt import labels
from mtv.kubevirt.resources import INSTANCES, NAMESPACES, PODS, SECRETS, VIRTUAL_MACHINES, Kind
from mtv.model.connection import Connection
from mtv.model.evidence import EvidenceKind, VmPhase
from mtv.model.plan import BootProof, NetworkTarget, Plan, PlannedVm, Source, StorageTarget, Target, Wave
from mtv.model.settings import Settings
from mtv.model.source import PowerState
from mtv.model.transfer import Proof
from mtv.steps import convert, create_vm, prepare, run, settle, transfer, verify
from mtv.steps.context import RunContext, VmContext, start_run
from mtv.store import Store
from tests.openstack_kit import connect, connection, made, password
from tests.steps.conftest import through_validation
from tests.steps.lab_pods import last_word, start_pod

pytestmark = [pytest.mark.openstack, pytest.mark.lab, pytest.mark.guest, pytest.mark.timeout(1800)]

NAME = "cloud-1"
RULES = Path(__file__).parents[2] / "include" / "validation_rules"
Start = Callable[[str], RunContext]


@pytest.fixture
def user(cloud: dict[str, Any]) -> Iterator[openstack.connection.Connection]:
    with connect(cloud) as opened:
        yield opened


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


class Connections:
    """The lab's cloud and cluster."""

    def __init__(self, cloud: dict[str, Any], cluster: dict[str, Any]) -> None:
        self._known = {
            "cloud": connection(cloud),
            "cluster": Connection(
                conn_id="cluster", conn_type="kubernetes", extra={"kube_config_path": cluster["kubeconfig"]}
            ),
        }

    def get(self, conn_id: str) -> Connection:
        return self._known[conn_id]


@pytest.fixture
def start(cloud: dict[str, Any], lab: Any, store: Store, tmp_path: Path) -> Iterator[Start]:
    """Start a run of the server, into a namespace of its own."""
    assert lab.endpoints("kubevirt")
    connections = Connections(cloud, lab.endpoints("cluster"))
    namespace = f"mtv-openstack-{uuid.uuid4().hex[:8]}"
    started: list[RunContext] = []
    storage = StorageTarget(storage_class="lab-fs", volume_mode="Filesystem")
    proof = BootProof(marker=f"MTV-BOOT-OK {NAME} disk-driver=virtio_blk", timeout_s=300)
    plan = Plan(
        name="cloud",
        source=Source(connection="cloud"),
        target=Target(connection="cluster", namespace=namespace),
        network_map={"blue": NetworkTarget(type="pod")},
        storage_map={"gold": storage, "silver": storage},
        waves=(Wave(name="w", vms=(PlannedVm(id=NAME, name=NAME, boot_proof=proof),)),),
    )

    def make(dag_run: str) -> RunContext:
        context = start_run(
            store=store,
            connections=connections,
            settings=Settings(rules_folder=RULES, state_folder=tmp_path / "state"),
            plan_hash=store.put_plan(plan),
            wave="w",
            dag_id="mtv.cloud.w",
            dag_run_id=dag_run,
            log=print,
        )
        started.append(context)
        return context

    yield make
    if started:
        with started[0].cluster() as cluster:
            cluster.delete(NAMESPACES, namespace, "")


def document(vm: VmContext, kind: EvidenceKind) -> dict[str, Any]:
    return vm.store.evidence(vm.run.id, vm.vm.id, kind)[-1].document


def left_of(vm: VmContext, *kinds: Kind) -> list[str]:
    """Names of the plan's objects, without the pods in which KubeVirt runs its machines."""
    with vm.cluster() as cluster:
        found = [
            item["metadata"] for kind in kinds for item in cluster.find(kind, vm.namespace, {labels.PLAN: "cloud"})
        ]
    return [item["name"] for item in found if "kubevirt.io" not in item["labels"]]


def test_a_server_with_two_volumes_is_migrated_as_it_is_and_its_guest_proves_every_file(
    cloud: dict[str, Any],
    user: openstack.connection.Connection,
    guest: GuestImage,
    server: Any,
    start: Start,
    store: Store,
) -> None:
    before = made(user)

    # A run that ends before its copy: the server runs again.
    vm = through_validation(start("r1"), NAME)
    prepare.prepare(vm)
    assert document(vm, EvidenceKind.POWER)["method"] == "power off"
    assert user.compute.get_server(server.id).status == "SHUTOFF"
    settle.settle(vm)
    settled = document(vm, EvidenceKind.SETTLED)
    assert (settled["outcome"], settled["source_power"]) == ("rolled back", PowerState.ON)
    assert user.compute.get_server(server.id).status == "ACTIVE"

    started = start("r2")
    vm = through_validation(started, NAME)
    prepare.prepare(vm)
    request = transfer.pod_request(vm)
    assert request is not None
    assert len(made(user) - before) == 2, "an image of each volume; what they were made by is gone already"
    assert set(request.secret_files) == {"spec.json", "user", "password", "ca.pem"}
    assert password(cloud) not in request.secret_files["spec.json"]
    with vm.cluster() as cluster:
        start_pod(cluster, request)
        transfer.finish(vm, last_word(cluster, request))
    copied = document(vm, EvidenceKind.TRANSFER)["disks"]
    assert [disk["proof"] for disk in copied] == [Proof.SOURCE_CHECKED, Proof.SOURCE_CHECKED]
    assert convert.pod_request(vm) is None, "it ran on KVM already"
    create_vm.create_vm(vm)
    verify.verify(vm)
    settle.settle(vm)
    run.verdict(started)

    [summary] = summarise(store, vm.run.id, {NAME: guest.payload})
    assert summary.is_proven, summary
    assert store.vm("cloud", NAME).phase is VmPhase.MIGRATED
    assert document(vm, EvidenceKind.TARGET_VM)["run_strategy"] == "Always"
    assert left_of(vm, VIRTUAL_MACHINES, INSTANCES) == [NAME, NAME]
    assert left_of(vm, PODS, SECRETS) == []
    assert made(user) == before
    assert user.compute.get_server(server.id).status == "SHUTOFF"
