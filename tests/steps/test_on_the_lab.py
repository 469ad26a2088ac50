"""The steps on real parts: a real source with a real guest, a real cluster, real movers, and a guest that must boot."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.vcenter.part import wait_for_guest
from mtv.kubevirt import labels
from mtv.kubevirt.resources import CLAIMS, INSTANCES, PODS, SECRETS, VIRTUAL_MACHINES, Kind
from mtv.model.connection import Connection
from mtv.model.errors import PermanentError
from mtv.model.evidence import EvidenceKind
from mtv.model.plan import BootProof, NetworkTarget, PlannedVm, StorageTarget
from mtv.model.source import PowerState
from mtv.providers.registry import open_provider
from mtv.steps import create_vm, prepare, settle, verify
from mtv.steps.context import VmContext
from mtv.store import Store
from tests.steps.conftest import through_validation
from tests.steps.lab_runs import LabRuns, copy_disks, document

pytestmark = [pytest.mark.lab, pytest.mark.long, pytest.mark.guest, pytest.mark.timeout(1500)]


@pytest.fixture
def vcenter(lab: Any) -> Connection:
    known = lab.endpoints("vcenter")
    return Connection(
        conn_id="vcenter",
        conn_type="vsphere",
        host=known["host"],
        port=known["port"],
        login=known["user"],
        password=Path(known["password_file"]).read_text().strip(),
        extra={"ca_file": known["ca_file"]},
    )


@pytest.fixture
def runs(lab: Any, store: Store, vcenter: Connection, tmp_path: Path) -> Iterator[LabRuns]:
    (tmp_path / "rules" / "vmware").mkdir(parents=True)  # only plan conditions speak
    with LabRuns(lab, store, vcenter, rules=tmp_path / "rules", state=tmp_path / "state") as opened:
        yield opened


def names(vm: VmContext, kind: Kind) -> list[str]:
    with vm.cluster() as cluster:
        return [item["metadata"]["name"] for item in cluster.find(kind, vm.namespace)]


def test_a_boot_that_is_not_proven_is_rolled_back_and_the_source_runs_again(
    runs: LabRuns, vcenter: Connection, lab: Any
) -> None:
    console = Path(lab.endpoints("vcenter")["guests"]["web-1"]["console"])
    with open_provider(vcenter) as provider:
        provider.power_on(provider.vms(["web-1"])[0])  # other tests may have left it off
    wait_for_guest(lab.state, "web-1")
    proof = BootProof(marker="MTV-NEVER-SAID", timeout_s=20)
    storage = StorageTarget(storage_class="lab-block", volume_mode="Block")
    started = runs.start(
        PlannedVm(id="web-1", name="web-1", boot_proof=proof, skip_guest_conversion=True),
        network_map={"VM Network": NetworkTarget(type="pod"), "*": NetworkTarget(type="ignored")},
        storage_map={"*": storage},
    )
    vm = through_validation(started, "web-1")
    prepare.prepare(vm)
    copy_disks(vm)
    create_vm.create_vm(vm)
    with pytest.raises(PermanentError, match="nothing proved its boot"):
        verify.verify(vm)
    assert names(vm, INSTANCES) == ["web-1"], "the target runs until it is settled"
    assert document(vm, EvidenceKind.POWER)["method"] == "guest shutdown"
    off = console.stat().st_mtime_ns
    settle.settle(vm)
    assert names(vm, VIRTUAL_MACHINES) == names(vm, INSTANCES) == names(vm, PODS) == names(vm, SECRETS) == []
    assert [claim["metadata"]["annotations"].get(labels.STALE) for claim in claims(vm)] == ["true", "true"]
    kept = ["steps-web-1-disk-0", "steps-web-1-disk-1"]
    assert names(vm, CLAIMS) == kept, "the copy's journal knows nothing of what the guest has written"
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
