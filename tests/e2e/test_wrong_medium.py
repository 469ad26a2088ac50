"""A target whose storage does not keep what is written: its VM fails and is named, the rest of the wave goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mover.digest import block_digest
from mover.geometry import BLOCK_BYTES
from mtv.kubevirt import labels
from mtv.kubevirt.pods import DISK_FILE
from mtv.kubevirt.resources import CLAIMS, INSTANCES, PODS, SECRETS, VIRTUAL_MACHINES, Kind
from mtv.model.evidence import EvidenceKind, VmPhase
from mtv.model.source import PowerState
from mtv.reporting.reading import read_run
from tests.e2e.conftest import Factory
from tests.e2e.wrong_medium import WrongMedium, why_no_reader_can_be_held

_LACK = why_no_reader_can_be_held()
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.long,
    pytest.mark.lab,
    pytest.mark.timeout(2400),
    pytest.mark.skipif(bool(_LACK), reason=_LACK),
]

NAME = "wrong-medium"
PLAN = f"""
    source: {{connection: lab-vcenter}}
    target: {{connection: lab-cluster, namespace: {NAME}}}
    network_map: {{VM Network: {{type: pod}}, dvpg-app: {{type: ignored}}}}
    storage_map: {{"*": {{storage_class: lab-fs}}}}
    defaults: {{skip_guest_conversion: true}}
    waves:
      w: {{vms: [{{name: web-1}}, {{name: db-1}}]}}
"""
PERSISTENT_VOLUMES = Kind("api/v1", "persistentvolumes", namespaced=False)
FLIPPED = 8193 * 1024 + 56
"""Where web-1's second disk has a copy of its superblock's magic number, which no guest ever changes."""
GOOD = 0x53


def second_disk(factory: Factory) -> Path:
    """Wait until web-1's second claim has a volume and return its folder: the step `prepare` makes it."""
    with factory.cluster() as cluster:

        def folder() -> Path | None:
            having = {**labels.of_vm(NAME, "web-1"), labels.ROLE: "disk"}
            for claim in cluster.find(CLAIMS, NAME, having):
                is_second = claim["metadata"]["annotations"].get(labels.DISK_INDEX) == "1"
                if is_second and (name := claim["spec"].get("volumeName")):
                    volume = cluster.get(PERSISTENT_VOLUMES, name)
                    assert volume is not None
                    return Path(volume["spec"]["local"]["path"])
            return None

        return cluster.wait(folder, timeout_s=300, what="the claim of web-1's second disk", interval_s=0.1)


def left_on_the_cluster(factory: Factory, vm: str) -> dict[str, Any]:
    with factory.cluster() as cluster:
        found = {
            kind.plural: cluster.find(kind, NAME, labels.of_vm(NAME, vm))
            for kind in (VIRTUAL_MACHINES, INSTANCES, PODS, SECRETS)
        }
    return {kind: objects for kind, objects in found.items() if objects}


def test_a_byte_that_never_reads_back_right_fails_its_vm_and_is_named_while_the_rest_of_the_wave_goes_on(
    factory: Factory,
):
    dag_id = factory.write_plan(NAME, PLAN)
    factory.power_on_source("web-1")
    disk = factory.source_vm("web-1").disks[1]

    dag_run_id = factory.start(dag_id)
    folder = second_disk(factory)
    with WrongMedium(folder, FLIPPED, GOOD) as medium:
        state = factory.finish(dag_id, dag_run_id)

    assert medium.flips == 2, "the byte was to be made wrong after the copy and once more after the second copy"
    assert state == "failed"
    run = factory.store.run_of(dag_id, dag_run_id)
    assert run is not None
    assert {vm.vm_id: vm.phase for vm in factory.store.vms(NAME)} == {
        "web-1": VmPhase.FAILED,
        "db-1": VmPhase.MIGRATED,
    }, factory.errors(dag_id, dag_run_id)

    found, meant = block_digests(folder / DISK_FILE)
    pod_said = factory.evidence(dag_id, dag_run_id, "web-1", EvidenceKind.TRANSFER)["failure"]
    assert (pod_said["code"], pod_said["disk"], pod_said["offset"]) == ("target-mismatch", disk.id, FLIPPED)
    failure = factory.evidence(dag_id, dag_run_id, "web-1", EvidenceKind.FAILURE)
    assert (failure["step"], failure["code"], "retryable" in failure) == ("transfer", "target-mismatch", False)
    for named in (f"disk {disk.id} at byte {FLIPPED}", f"expected {meant}", f"found {found}"):
        assert named in failure["message"]
    (shown,) = (told for vm in read_run(factory.store, run.id).vms if vm.id == "web-1" for told in vm.failures)
    assert (shown.disk, shown.offset, shown.message) == (disk.id, FLIPPED, failure["message"])

    assert factory.evidence(dag_id, dag_run_id, "web-1", EvidenceKind.SETTLED)["outcome"] == "rolled back"
    assert factory.source_power("web-1") is PowerState.ON
    assert left_on_the_cluster(factory, "web-1") == {}
    assert list(left_on_the_cluster(factory, "db-1")) == ["virtualmachines"]


def block_digests(path: Path) -> tuple[str, str]:
    """Return the digests of the block with the wrong byte: as it lies on the medium, and as it was meant."""
    with path.open("rb") as file:
        file.seek(FLIPPED // BLOCK_BYTES * BLOCK_BYTES)
        block = bytearray(file.read(BLOCK_BYTES))
    found = block_digest(block)
    block[FLIPPED % BLOCK_BYTES] = GOOD
    return found.hex(), block_digest(block).hex()
