"""A run marked failed, at each step: what it did is undone, and a new run ends well."""

from __future__ import annotations

import pytest

from lab.process import wait_until
from mtv.kubevirt import labels
from mtv.kubevirt.cluster import Cluster
from mtv.kubevirt.resources import CLAIMS, INSTANCES, PODS, SECRETS, VIRTUAL_MACHINES, Kind
from mtv.model.evidence import EvidenceKind, VmPhase
from mtv.model.source import PowerState
from mtv.model.transfer import Proof
from tests.e2e.conftest import Factory
from tests.e2e.watchers import NeverBothOn

pytestmark = [pytest.mark.e2e, pytest.mark.lab, pytest.mark.timeout(2400)]

PLAN = """
    source: {{connection: lab-vcenter}}
    target: {{connection: lab-cluster, namespace: {name}}}
    network_map: {{VM Network: {{type: pod}}, dvpg-app: {{type: ignored}}}}
    storage_map: {{"*": {{storage_class: lab-fs}}}}
    defaults: {{boot_proof: {{marker: MTV-BOOT-OK web-1}}, skip_guest_conversion: {raw}}}
    waves:
      w: {{vms: [{{name: web-1}}]}}
"""
LIMIT_MB_S = 4
PAST_A_CHECKPOINT = 16 * LIMIT_MB_S * 1_000_000  # one is made every 10 s
SLOW_COPY = f"""
    source: {{connection: lab-vcenter}}
    target: {{connection: lab-cluster, namespace: cleared-copy}}
    network_map: {{"*": {{type: ignored}}}}
    storage_map: {{"*": {{storage_class: lab-fs}}}}
    bandwidth: {{limit: {LIMIT_MB_S}M}}
    defaults: {{skip_guest_conversion: true}}
    waves:
      w: {{vms: [{{name: db-1}}]}}
"""
AT_WORK = {"running", "deferred"}


def mine(cluster: Cluster, kind: Kind, name: str) -> list[dict]:
    return cluster.find(kind, name, {labels.PLAN: name})


def mark_failed_at(factory: Factory, name: str, dag_id: str, step: str) -> None:
    """Run the wave, mark the run failed while `step` works, and check that all is undone."""
    factory.power_on_source("web-1")
    with NeverBothOn(factory, "web-1", name) as watched:
        dag_run_id = factory.start(dag_id)
        factory.wait_for_step(dag_id, dag_run_id, step, AT_WORK)
        factory.api.mark_run(dag_id, dag_run_id, "failed")
        factory.wait_for_step(dag_id, dag_run_id, "settle", {"success"})
        assert_undone(factory, name, step)
        if step != "prepare":  # which alone would take the VM again, as it should
            factory.api.clear(dag_id, dag_run_id, [(f"{itinerary_of(factory, dag_id, dag_run_id)}.{step}", 0)])
            assert factory.finish(dag_id, dag_run_id) == "failed", f"{step} was cleared alone after all was undone"
            assert "clear the task prepare" in factory.errors(dag_id, dag_run_id)
            assert_undone(factory, name, step)
    assert watched.both_on == 0, f"marked failed at {step}: both sides were on"


def test_a_run_marked_failed_while_it_creates_or_verifies_is_undone(factory: Factory):
    """The copy is not converted, so its guest cannot boot on the target: the step verify waits until it is ended."""
    dag_id = factory.write_plan("unconverted", PLAN.format(name="unconverted", raw="true"))
    for step in ("create_vm", "verify"):
        mark_failed_at(factory, "unconverted", dag_id, step)


@pytest.mark.long
def test_a_run_marked_failed_at_any_earlier_step_is_undone_and_a_new_run_ends_well(factory: Factory):
    dag_id = factory.write_plan("interrupted", PLAN.format(name="interrupted", raw="false"))
    for step in ("prepare", "transfer", "convert"):
        mark_failed_at(factory, "interrupted", dag_id, step)

    factory.power_on_source("web-1")
    with NeverBothOn(factory, "web-1", "interrupted") as watched:
        dag_run_id, state = factory.run(dag_id)
    assert state == "success", factory.errors(dag_id, dag_run_id)
    assert watched.both_on == 0
    assert (False, True) in watched.seen, "the watcher never saw the target run: it proves nothing"
    assert factory.evidence(dag_id, dag_run_id, "web-1", EvidenceKind.BOOT)["proven"]

    for step in ("prepare", "transfer", "convert", "create_vm", "verify", "settle"):
        assert_clearing_alone_changes_nothing(factory, dag_id, dag_run_id, step)


@pytest.mark.long
def test_a_copy_that_is_cleared_in_its_middle_reads_only_what_was_not_proven(factory: Factory):
    dag_id = factory.write_plan("cleared-copy", SLOW_COPY)
    dag_run_id = factory.start(dag_id)
    factory.wait_for_step(dag_id, dag_run_id, "transfer", {"deferred"})
    run = factory.store.run_of(dag_id, dag_run_id)
    assert run is not None

    def copied() -> int:
        return sum(row.progress.bytes_done for row in factory.store.progress(run.id))

    wait_until(lambda: copied() > PAST_A_CHECKPOINT, timeout_s=600, what=lambda: f"more than {copied()} bytes")
    factory.api.clear(dag_id, dag_run_id, [("cold-raw.transfer", 0)], downstream=True)

    assert factory.finish(dag_id, dag_run_id) == "success", factory.errors(dag_id, dag_run_id)
    (disk,) = factory.evidence(dag_id, dag_run_id, "db-1", EvidenceKind.TRANSFER)["disks"]
    assert disk["bytes_resumed"] > 0
    assert disk["bytes_resumed"] + disk["bytes_read"] == disk["bytes_data"]
    assert disk["proof"] == Proof.AS_READ


def itinerary_of(factory: Factory, dag_id: str, dag_run_id: str) -> str:
    """The group of the VM's tasks: the itinerary that it walks."""
    (group,) = {task["task_id"].rpartition(".")[0] for task in factory.api.tasks(dag_id, dag_run_id)} - {""}
    return group


def assert_undone(factory: Factory, name: str, step: str) -> None:
    assert factory.source_power("web-1") is PowerState.ON, f"marked failed at {step}: the source is not on again"
    row = factory.store.vm(name, "web-1")
    # A task that is running may not have begun its step yet: then there was nothing to undo.
    untouched = {VmPhase.PENDING} if step == "prepare" else set()
    assert row.holder == ""
    assert row.phase in {VmPhase.FAILED} | untouched
    assert factory.store.open_source_changes(name, "web-1") == []
    with factory.cluster() as cluster:
        for kind in (VIRTUAL_MACHINES, INSTANCES, PODS, SECRETS):
            assert mine(cluster, kind, name) == [], f"marked failed at {step}: something of the target is left"
        for claim in mine(cluster, CLAIMS, name):
            if claim["metadata"]["labels"][labels.ROLE] == "disk":
                # A task that was ended a moment later may still have made an empty claim: it proves nothing either.
                notes = claim["metadata"]["annotations"]
                assert notes.get(labels.STALE) == "true" or labels.DIGEST not in notes


def assert_clearing_alone_changes_nothing(factory: Factory, dag_id: str, dag_run_id: str, step: str) -> None:
    """A single task cleared after the VM was migrated is done again without touching either side."""
    with factory.cluster() as cluster:
        (before,) = cluster.find(INSTANCES, "interrupted")
    factory.api.clear(dag_id, dag_run_id, [(f"cold.{step}", 0)])
    state = factory.finish(dag_id, dag_run_id)
    assert state == "success", f"{step} cleared alone: {factory.errors(dag_id, dag_run_id)}"
    assert factory.source_power("web-1") is PowerState.OFF
    assert factory.store.vm("interrupted", "web-1").phase is VmPhase.MIGRATED
    with factory.cluster() as cluster:
        (after,) = cluster.find(INSTANCES, "interrupted")
    assert after["metadata"]["uid"] == before["metadata"]["uid"], f"{step} cleared alone: the guest was restarted"
