"""The steps on real parts: a real source with a real guest, a real cluster, real movers, and a guest that must boot."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.vcenter.part import wait_for_guest
from mtv.kubevirt import labels
from mtv.kubevirt.resources import CLAIMS, INSTANCES, NAMESPACES, PODS, SECRETS, VIRTUAL_MACHINES, Kind
from mtv.model.connection import Connection
from mtv.model.errors import PermanentError
from mtv.model.evidence import EvidenceKind
from mtv.model.plan import BootProof, NetworkTarget, Plan, PlannedVm, Source, StorageTarget, Target, Wave
from mtv.model.settings import Settings
from mtv.model.source import PowerState
from mtv.providers.registry import open_provider
from mtv.steps import create_vm, prepare, settle, transfer, verify
from mtv.steps.context import RunContext, VmContext, start_run
from mtv.store import Store
from tests.steps.conftest import through_validation
from tests.steps.lab_pods import last_word, start_pod

pytestmark = [pytest.mark.lab, pytest.mark.long, pytest.mark.guest, pytest.mark.timeout(1500)]
Start = Callable[..., RunContext]


class LabConnections:
    """The lab's endpoints as connections."""

    def __init__(self, lab: Any) -> None:
        self.lab = lab

    def get(self, conn_id: str) -> Connection:
        if conn_id == "cluster":
            path = self.lab.endpoints("cluster")["kubeconfig"]
            return Connection(conn_id=conn_id, conn_type="kubernetes", extra={"kube_config_path": path})
        vcenter = self.lab.endpoints("vcenter")
        return Connection(
            conn_id=conn_id,
            conn_type="vsphere",
            host=vcenter["host"],
            port=vcenter["port"],
            login=vcenter["user"],
            password=Path(vcenter["password_file"]).read_text().strip(),
            extra={"ca_file": vcenter["ca_file"]},
        )


@pytest.fixture
def start(lab: Any, store: Store, tmp_path: Path) -> Iterator[Start]:
    """Start a run of one VM into a namespace of its own."""
    assert lab.endpoints("kubevirt")
    connections = LabConnections(lab)
    namespace = f"mtv-steps-{uuid.uuid4().hex[:8]}"
    (tmp_path / "rules" / "vmware").mkdir(parents=True)
    started: list[RunContext] = []

    def make(vm: str, storage: StorageTarget, *, dag_run: str = "r1", **options: Any) -> RunContext:
        plan = Plan(
            name="steps",
            source=Source(connection="vcenter"),
            target=Target(connection="cluster", namespace=namespace),
            network_map={"VM Network": NetworkTarget(type="pod"), "*": NetworkTarget(type="ignored")},
            storage_map={"*": storage},
            waves=(Wave(name="w", vms=(PlannedVm(id=vm, name=vm, **options),)),),
        )
        context = start_run(
            store=store,
            connections=connections,
            settings=Settings(rules_folder=tmp_path / "rules", state_folder=tmp_path / "state"),
            plan_hash=store.put_plan(plan),
            wave="w",
            dag_id="mtv.steps.w",
            dag_run_id=dag_run,
            log=print,
        )
        started.append(context)
        return context

    yield make
    if started:
        with started[0].cluster() as cluster:
            cluster.delete(NAMESPACES, namespace, "")


def play(vm: VmContext) -> None:
    """Everything from `prepare` to `verify` of a raw copy, as the orchestration would."""
    prepare.prepare(vm)
    request = transfer.pod_request(vm)
    assert request is not None
    with vm.cluster() as cluster:
        start_pod(cluster, request)
        message = last_word(cluster, request)
    transfer.finish(vm, message)
    create_vm.create_vm(vm)
    verify.verify(vm)


def names(vm: VmContext, kind: Kind) -> list[str]:
    with vm.cluster() as cluster:
        return [item["metadata"]["name"] for item in cluster.find(kind, vm.namespace)]


def document(vm: VmContext, kind: EvidenceKind) -> dict[str, Any]:
    return vm.store.evidence(vm.run.id, vm.vm.id, kind)[-1].document


def test_a_boot_that_is_not_proven_is_rolled_back_and_the_source_runs_again(start: Start, lab: Any) -> None:
    console = Path(lab.endpoints("vcenter")["guests"]["web-1"]["console"])
    with open_provider(LabConnections(lab).get("vcenter")) as provider:
        provider.power_on(provider.vms(["web-1"])[0])  # other tests may have left it off
    wait_for_guest(lab.state, "web-1")
    proof = BootProof(marker="MTV-NEVER-SAID", timeout_s=20)
    storage = StorageTarget(storage_class="lab-block", volume_mode="Block")
    vm = through_validation(start("web-1", storage, boot_proof=proof, skip_guest_conversion=True), "web-1")
    with pytest.raises(PermanentError, match="nothing proved its boot"):
        play(vm)
    assert names(vm, INSTANCES) == ["web-1"], "the target runs until it is settled"
    assert document(vm, EvidenceKind.POWER)["method"] == "guest shutdown"
    off = console.stat().st_mtime_ns
    settle.settle(vm)
    assert names(vm, VIRTUAL_MACHINES) == names(vm, INSTANCES) == names(vm, PODS) == names(vm, SECRETS) == []
    assert [claim["metadata"]["annotations"].get(labels.STALE) for claim in claims(vm)] == ["true", "true"]
    kept = ["steps-web-1-disk-0", "steps-web-1-disk-1", "steps-web-1-work"]
    assert names(vm, CLAIMS) == kept, "disks and the journal of their copy stay for the retry"
    assert vm.store.open_source_changes("steps", "web-1") == []
    settled = document(vm, EvidenceKind.SETTLED)
    assert (settled["outcome"], settled["source_power"]) == ("rolled back", PowerState.ON)
    with vm.cluster() as cluster:  # only for its bounded wait
        cluster.wait(
            # Each power-on may begin the console anew, so what counts is a boot written after the source was off.
            lambda: console.stat().st_mtime_ns > off and "MTV-BOOT-OK web-1" in _last_boot(console),
            timeout_s=300,
            what="the source's guest to boot again",
        )


def _last_boot(console: Path) -> str:
    """Return what the guest said since its newest start: the kernel's first line begins a boot."""
    return console.read_text(errors="replace").rpartition("Linux version")[2]


def claims(vm: VmContext) -> list[dict[str, Any]]:
    with vm.cluster() as cluster:
        return cluster.find(CLAIMS, vm.namespace, {labels.ROLE: "disk"})
