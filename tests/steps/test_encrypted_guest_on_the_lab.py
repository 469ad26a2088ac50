"""A guest whose root lies in LUKS, from an OVA through all steps on real parts: pods, a key out of a Secret, a boot."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.guests.image import guest_image
from lab.ova.descriptor import OvfMachine
from lab.ova.package import write_ova
from mtv.kubevirt import labels
from mtv.kubevirt.resources import CLAIMS, INSTANCES, PODS, SECRETS, VIRTUAL_MACHINES
from mtv.model.connection import Connection
from mtv.model.errors import PermanentError
from mtv.model.evidence import EvidenceKind, VmPhase
from mtv.model.plan import BootProof, NetworkTarget, PlannedVm, StorageTarget
from mtv.model.source import PowerState
from mtv.reporting import write_report
from mtv.steps import create_vm, prepare, settle, verify
from mtv.steps.context import VmContext
from mtv.store import Store
from tests.leaks import Secrets, content_of, files_below
from tests.mover_convert.test_encrypted_guests import VAULT, WRONG
from tests.steps.conftest import through_validation
from tests.steps.lab_runs import LabRuns, convert_disks, copy_disks, document

pytestmark = [pytest.mark.lab, pytest.mark.long, pytest.mark.convert, pytest.mark.guest, pytest.mark.timeout(1800)]

KEYS = "vault-keys"


@pytest.fixture
def runs(lab: Any, store: Store, tmp_path: Path) -> Iterator[LabRuns]:
    folder = tmp_path / "ovas"
    folder.mkdir()
    write_ova(folder / "vault-1.ova", OvfMachine("vault-1", memory_mb=512), guest_image(VAULT).disks)
    share = {"path": str(folder), "volume": {"hostPath": {"path": str(folder), "type": "Directory"}}}
    source = Connection(conn_id="ovas", conn_type="ova", extra=share)
    (tmp_path / "rules" / "ova").mkdir(parents=True)  # only plan conditions speak
    with LabRuns(lab, store, source, rules=tmp_path / "rules", state=tmp_path / "state") as opened:
        yield opened


def begin(runs: LabRuns, key: str, dag_run: str) -> VmContext:
    """Start a run whose Secret holds this key, and prepare the VM."""
    marker = BootProof(marker="MTV-ENCRYPTED CRYPT-LUKS2", timeout_s=600)
    started = runs.start(
        PlannedVm(id="vault-1", name="vault-1", luks=KEYS, boot_proof=marker, target_power_state="on"),
        dag_run=dag_run,
        network_map={"*": NetworkTarget(type="ignored")},
        storage_map={"*": StorageTarget(storage_class="lab-fs", volume_mode="Filesystem")},
    )
    with started.cluster() as cluster:
        cluster.ensure_namespace(runs.namespace)
        cluster.delete(SECRETS, KEYS, runs.namespace)
        metadata = {"name": KEYS, "namespace": runs.namespace}
        cluster.create(SECRETS, {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"k": key}})
    vm = through_validation(started, "vault-1")
    prepare.prepare(vm)
    return vm


def everything_said(vm: VmContext) -> bytes:
    """What the cluster holds besides Secrets, and what the pods that are there have logged."""
    with vm.cluster() as cluster:
        objects = [cluster.find(kind, vm.namespace) for kind in (PODS, CLAIMS, VIRTUAL_MACHINES, INSTANCES)]
        movers = [pod["metadata"]["name"] for pod in objects[0] if pod["metadata"]["labels"].get(labels.RUN)]
        logs = [cluster.pod_log(name, vm.namespace, "mover") for name in movers]
    return json.dumps([objects, logs]).encode()


def test_the_key_of_a_secret_takes_an_encrypted_guest_to_its_boot_and_is_found_nowhere_else(
    runs: LabRuns, store: Store, tmp_path: Path
) -> None:
    keys = Secrets([VAULT.luks_key.encode(), WRONG.encode()])

    vm = begin(runs, WRONG, "r1")
    copy_disks(vm)
    with pytest.raises(PermanentError, match="no key opens it") as refused:
        convert_disks(vm)
    assert refused.value.code == "encrypted"
    assert "LUKS key" in refused.value.cure
    assert not keys.in_bytes(everything_said(vm))
    settle.settle(vm)
    settled = document(vm, EvidenceKind.SETTLED)
    assert (settled["outcome"], settled["source_power"]) == ("rolled back", PowerState.OFF)
    store.finish_run(vm.run.id, "failed")

    vm = begin(runs, VAULT.luks_key, "r2")
    copy_disks(vm)
    convert_disks(vm)
    create_vm.create_vm(vm)
    verify.verify(vm)
    assert not keys.in_bytes(everything_said(vm))
    settle.settle(vm)
    assert store.vm(*vm.key).phase is VmPhase.MIGRATED
    boot = document(vm, EvidenceKind.BOOT)
    assert boot["proven"]
    assert VAULT.luks_uuid.replace("-", "") in boot["marker"], "it did not boot from its encrypted root"

    write_report(store, vm.run.id, tmp_path / "reports")
    store.close()
    left = [path for path in files_below(tmp_path) if path.suffix != ".ova" and keys.in_bytes(content_of(path))]
    assert left == []
