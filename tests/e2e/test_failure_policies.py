"""What happens when a conversion fails: rolled back by default, held when the plan says so; a retry ends well."""

from __future__ import annotations

import pytest

from mtv.kubevirt import labels
from mtv.kubevirt.resources import CLAIMS, INSTANCES, PODS, SECRETS, VIRTUAL_MACHINES
from mtv.model.evidence import EvidenceKind
from mtv.model.source import PowerState
from tests.e2e.conftest import Factory

pytestmark = [pytest.mark.e2e, pytest.mark.long, pytest.mark.lab, pytest.mark.timeout(2400)]

PLAN = """
    source: {{connection: lab-vcenter}}
    target: {{connection: lab-cluster, namespace: {name}}}
    network_map: {{VM Network: {{type: pod}}, dvpg-app: {{type: ignored}}}}
    storage_map: {{"*": {{storage_class: lab-fs}}}}
    defaults: {{on_failure: {policy}, boot_proof: {{marker: MTV-BOOT-OK {vm}}}}}
    waves:
      w: {{vms: [{{name: {vm}}}]}}
"""


def left_on_the_cluster(factory: Factory, namespace: str) -> list[str]:
    with factory.cluster() as cluster:
        kinds = (VIRTUAL_MACHINES, INSTANCES, PODS, SECRETS)
        mine = {labels.PLAN: namespace}
        return [obj["metadata"]["name"] for kind in kinds for obj in cluster.find(kind, namespace, mine)]


def disk_claims(factory: Factory, namespace: str) -> list[dict]:
    with factory.cluster() as cluster:
        return cluster.find(CLAIMS, namespace, {labels.PLAN: namespace, labels.ROLE: "disk"})


def test_a_conversion_that_fails_is_rolled_back_and_the_retry_brings_what_the_guest_wrote_since(factory: Factory):
    dag_id = factory.write_plan("rolled-back", PLAN.format(name="rolled-back", policy="rollback", vm="full-1"))
    factory.power_on_source("full-1")

    failed_run, state = factory.run(dag_id)

    assert state == "failed"
    failure = factory.evidence(dag_id, failed_run, "full-1", EvidenceKind.FAILURE)
    assert failure["code"] == "guest-disk-full"
    settled = factory.evidence(dag_id, failed_run, "full-1", EvidenceKind.SETTLED)
    assert settled["outcome"] == "rolled back"
    assert factory.source_power("full-1") is PowerState.ON
    assert left_on_the_cluster(factory, "rolled-back") == []
    (claim,) = disk_claims(factory, "rolled-back")
    assert claim["metadata"]["annotations"][labels.STALE] == "true"

    factory.power_on_source("full-1")  # on already: waits until the guest has booted, written and made room
    second_run, state = factory.run(dag_id)

    assert state == "success", factory.errors(dag_id, second_run)
    lines = factory.evidence(dag_id, second_run, "full-1", EvidenceKind.BOOT)["lines"]
    # Boot 1 was before the failure, boot 2 after the rollback: the target's own boot counts both.
    assert any(line.startswith("MTV-BOOTS 3") for line in lines), lines
    (claim,) = disk_claims(factory, "rolled-back")
    assert labels.STALE not in claim["metadata"]["annotations"]


def test_a_conversion_that_fails_is_held_and_the_retry_of_the_mended_plan_does_not_copy_again(factory: Factory):
    plan = PLAN.format(name="held", policy="hold", vm="web-1")
    dag_id = factory.write_plan("held", plan.replace("on_failure: hold", "on_failure: hold, root_disk: /dev/sda9"))
    factory.power_on_source("web-1")

    failed_run, state = factory.run(dag_id)

    assert state == "failed"
    assert factory.evidence(dag_id, failed_run, "web-1", EvidenceKind.FAILURE)["code"] == "root-disk-unknown"
    assert factory.evidence(dag_id, failed_run, "web-1", EvidenceKind.SETTLED)["outcome"] == "held"
    assert factory.source_power("web-1") is PowerState.OFF
    assert left_on_the_cluster(factory, "held") == []
    copied = factory.evidence(dag_id, failed_run, "web-1", EvidenceKind.TRANSFER)["disks"]

    factory.write_plan("held", plan)
    second_run, state = factory.run(dag_id)

    assert state == "success", factory.errors(dag_id, second_run)
    run = factory.store.run_of(dag_id, second_run)
    assert run is not None
    assert factory.store.evidence(run.id, "web-1", EvidenceKind.TRANSFER) == [], "it was copied again"
    digests = {d["metadata"]["annotations"][labels.DIGEST] for d in disk_claims(factory, "held")}
    assert digests == {disk["digest"] for disk in copied}
    assert factory.source_power("web-1") is PowerState.OFF
