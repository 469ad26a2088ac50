"""What somebody agreed to: accepted concerns, VMs as they were approved, connections that verify nobody."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import msgspec
import pytest

from mtv.model.connection import Connection
from mtv.model.errors import PermanentError
from mtv.model.evidence import EvidenceKind, VmPhase
from mtv.model.plan import AcceptedConcern, Plan
from mtv.reporting import read_run, write_report
from mtv.steps import approval, prepare
from tests.steps.conftest import SomeConnections, plan_of, through_validation
from tests.steps.walk import MakeRun
from tests.steps.world import World

RULE = """\
id: vmware.test.big
category: Critical
label: The VM is big
assessment: Make it smaller.
condition: size > 10
"""


def accepting(id_: str, *vms: str) -> Plan:
    entry = AcceptedConcern(id=id_, reason="it was measured", by="jane", vms=vms)
    return plan_of().model_copy(update={"accept_concerns": (entry,)})


@pytest.fixture
def big(make_run: MakeRun, world: World, tmp_path: Path) -> MakeRun:
    """A run of a VM that a rule finds critical."""
    (tmp_path / "rules" / "vmware" / "big.yaml").write_text(RULE)
    world.vm = msgspec.structs.replace(world.vm, document={**world.vm.document, "size": 11})
    return make_run


@pytest.mark.parametrize("vms", [(), ("web-1",)], ids=["of-all", "of-this-vm"])
def test_an_accepted_concern_does_not_block_and_the_report_says_who_and_why(
    vms: tuple[str, ...], big: MakeRun, tmp_path: Path
) -> None:
    started = big(plan=accepting("vmware.test.big", *vms))
    vm = through_validation(started)
    prepare.prepare(vm)
    assert vm.store.vm(*vm.key).phase is VmPhase.PREPARING
    facts = read_run(vm.store, started.run.id)
    (concern,) = [one for one in facts.vms[0].concerns if one["id"] == "vmware.test.big"]
    assert concern["accepted"] == {"by": "jane", "reason": "it was measured"}
    assert (facts.summary.critical, facts.summary.accepted) == (0, 1)
    assert facts.vms[0].rules_version
    (suite,) = [
        row.document
        for row in vm.store.evidence(started.run.id, "", EvidenceKind.CONCERNS)
        if row.subject == "suite:vcenter"
    ]
    assert (suite["vms"], suite["rules_version"]) == (["web-1"], facts.vms[0].rules_version)
    assert suite["result"]["statistics"]["unsuccessful_expectations"] == 1, "kept with whatever the suite says"
    files = write_report(vm.store, started.run.id, tmp_path / "reports")
    assert "<b>Accepted</b> by jane: it was measured" in files.html.read_text()
    assert "Critical: The VM is big (accepted by jane: it was measured)" in files.csv.read_text()


@pytest.mark.parametrize("id_", ["", "vmware.test.other"], ids=["nothing-accepted", "another-concern"])
def test_a_concern_that_nobody_accepted_blocks(id_: str, big: MakeRun) -> None:
    vm = through_validation(big(plan=accepting(id_) if id_ else plan_of()))
    assert vm.store.vm(*vm.key).phase is VmPhase.BLOCKED
    with pytest.raises(PermanentError, match="accept_concerns"):
        prepare.prepare(vm)


def test_a_vm_that_is_still_what_was_approved_goes_on(make_run: MakeRun, world: World) -> None:
    started = make_run()
    approval.pin(started.store, started.plan, started.wave, "jane", {"web-1": world.vm})
    vm = through_validation(started)
    prepare.prepare(vm)
    assert vm.store.vm(*vm.key).phase is VmPhase.PREPARING


def test_a_vm_that_has_changed_since_its_approval_is_blocked_with_the_difference_in_words(
    make_run: MakeRun, world: World
) -> None:
    started = make_run()
    approval.pin(started.store, started.plan, started.wave, "jane", {"web-1": world.vm})
    world.vm = msgspec.structs.replace(world.vm, cpu_count=world.vm.cpu_count + 1)
    vm = through_validation(started)
    assert vm.store.vm(*vm.key).phase is VmPhase.BLOCKED
    rows = vm.store.evidence(started.run.id, "web-1", EvidenceKind.CONCERNS)
    (said,) = [one for one in rows[-1].document["concerns"] if one["id"] == "plan.vm.changed_since_approval"]
    assert "has changed since jane approved it: number of CPUs was" in said["label"]
    # Approved again as it is now, the next run goes on.
    approval.pin(started.store, started.plan, started.wave, "jane", {"web-1": world.vm})
    vm = through_validation(started)
    assert vm.store.vm(*vm.key).phase is VmPhase.PENDING
    prepare.prepare(vm)


def test_a_plan_that_has_changed_since_its_approval_is_told(make_run: MakeRun, world: World) -> None:
    other = plan_of(verify="off")
    started = make_run()
    approval.pin(started.store, other, other.waves[0], "jane", {"web-1": world.vm})
    through_validation(started)
    conditions = read_run(started.store, started.run.id).conditions
    assert [one["type"] for one in conditions] == ["PlanChangedSinceApproval"]


def test_the_report_says_which_connection_was_not_verified(make_run: MakeRun, tmp_path: Path) -> None:
    class Insecure(SomeConnections):
        def get(self, conn_id: str) -> Connection:
            return msgspec.structs.replace(super().get(conn_id), extra={"insecure": conn_id == "vcenter"})

    started = dataclasses.replace(make_run(), connections=Insecure())
    through_validation(started)
    page = write_report(started.store, started.run.id, tmp_path / "reports").html.read_text()
    assert "The certificate of connection vcenter is not verified" in page
