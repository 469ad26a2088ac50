"""`mtv plan approve` and what `mtv plan show` tells of approvals, options, maps and accepted concerns."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mtv.cli import main
from mtv.model.concern import Category, Concern
from mtv.plan import load
from mtv.store import Judgement, Store, default_dsn
from mtv.validation import load_rules
from tests.providers.conftest import NAMESPACES, envelope, system, write_tar

Output = pytest.CaptureFixture[str]
PLAN = """\
source: {connection: boxes}
target: {connection: cluster, namespace: n}
network_map: {"VM Network": {type: multus, name: n/app}, "*": {type: pod}}
storage_map: {"*": {storage_class: fast, volume_mode: Block}, odd: {}}
bandwidth: {limit: 400M, windows: [{start: "07:00", end: "19:00", limit: 50M}]}
accept_concerns:
  - {id: ova.source.unsupported, reason: tested by hand, by: jane, vms: [app-1]}
waves:
  pilot:
    defaults: {verify: sampled, preflight: true}
    vms: [{name: app-1, luks: keys, preserve_static_ips: false, boot_proof: {throw_away: true}}]
"""


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output) -> Path:
    """A plan of one appliance whose inventory has been taken."""
    (tmp_path / "ova").mkdir()
    connections = tmp_path / "connections.json"
    connections.write_text(json.dumps({"boxes": {"conn_type": "ova", "extra": {"path": str(tmp_path / "ova")}}}))
    connections.chmod(0o600)
    monkeypatch.setenv("MTV_CONNECTIONS_FILE", str(connections))
    monkeypatch.setenv("MTV_STATE_FOLDER", str(tmp_path / "state"))
    write_tar(tmp_path / "ova" / "a.ova", {"a.ovf": envelope(system("app-1"))})
    assert main(["inventory", "boxes"]) == 0
    capsys.readouterr()
    file = tmp_path / "p.yaml"
    file.write_text(PLAN)
    return file


def judged(tmp_path: Path, *concerns: Concern) -> None:
    with Store.open(default_dsn(tmp_path / "state")) as store:
        moment = store.inventory_moment("boxes")
        assert moment is not None
        (vm,) = store.inventory(moment, kind="vm")
        version = load_rules(Path("include/validation_rules"), "ova").version
        judgement = Judgement(digest=vm.digest, rules_version=version, concerns=concerns)
        store.put_judgements("boxes", {vm.key: judgement})


def critical(id_: str) -> Concern:
    return Concern(id=id_, category=Category.CRITICAL, label=f"{id_} is bad", assessment="mend it")


def test_an_approval_is_pinned_in_the_store_and_shown_until_the_plan_changes(plan: Path, capsys: Output) -> None:
    assert main(["plan", "show", str(plan)]) == 0
    assert "approved" not in capsys.readouterr().out
    assert main(["plan", "approve", str(plan), "--by", "jane"]) == 0
    out = capsys.readouterr().out
    assert "wave pilot: approved by jane, 1 VM" in out
    pinned = out.split("pinned as ")[1][:16]
    with Store.open(default_dsn(plan.parent / "state")) as store:
        (approval,) = store.approvals("p", "pilot").values()
    assert approval.fingerprint.startswith(pinned)
    assert approval.document["name"] == "app-1"
    assert main(["plan", "show", str(plan)]) == 0
    out = capsys.readouterr().out
    assert "approved by jane 20" in out
    assert f"  app-1 as {pinned}" in out
    plan.write_text(PLAN.replace("sampled", "full"))
    assert main(["plan", "show", str(plan)]) == 0
    assert "the plan has changed since" in capsys.readouterr().out


def test_what_blocks_is_shown_and_not_approved_unless_the_plan_accepts_it(plan: Path, capsys: Output) -> None:
    judged(plan.parent, critical("ova.source.unsupported"), critical("ova.other"))
    assert main(["plan", "approve", str(plan), "--by", "jane"]) == 1
    seen = capsys.readouterr()
    assert "Critical: ova.source.unsupported is bad (accepted by jane: tested by hand): app-1" in seen.out
    assert "not approved: app-1 cannot be migrated" in seen.err
    with Store.open(default_dsn(plan.parent / "state")) as store:
        assert store.approvals("p", "pilot") == {}
    judged(plan.parent, critical("ova.source.unsupported"))
    assert main(["plan", "approve", str(plan), "--wave", "pilot", "--by", "jane"]) == 0


def test_rules_are_asked_of_a_vm_that_nobody_validated_as_it_is(plan: Path, capsys: Output) -> None:
    descriptor = envelope(system("app-1"), namespaces=NAMESPACES.replace("vmware.com", "example.test"))
    write_tar(plan.parent / "ova" / "a.ova", {"a.ovf": descriptor})
    assert main(["inventory", "boxes"]) == 0
    assert main(["plan", "approve", str(plan), "--by", "jane"]) == 0
    seen = capsys.readouterr()
    assert "ova.source.unsupported (accepted" not in seen.out, "people read labels"
    assert "(accepted by jane: tested by hand): app-1" in seen.out
    assert "boxes: 1 of 1 VMs validated" in seen.err
    main(["plan", "approve", str(plan), "--by", "jane"])
    assert "boxes: 0 of 1 VMs validated" in capsys.readouterr().err, "once is enough"


def test_a_misspelt_vm_cannot_be_approved_and_is_told_with_the_one_that_may_be_meant(
    plan: Path, capsys: Output
) -> None:
    plan.write_text(PLAN.replace("{name: app-1, luks", "{name: APP_1, luks"))
    assert main(["plan", "approve", str(plan), "--by", "jane"]) == 1
    error = capsys.readouterr().err
    assert "holds no VM of that name — There is 'app-1', which may be meant to be it. Else mend the name" in error


def test_a_vm_that_no_inventory_holds_cannot_be_approved(plan: Path, capsys: Output) -> None:
    plan.write_text(PLAN.replace("vms: [{name", "vms: [{name: nobody}, {name"))
    assert main(["plan", "approve", str(plan), "--by", "jane"]) == 1
    error = capsys.readouterr().err
    assert "nobody cannot be approved: the inventory of boxes (20" in error
    assert (
        "holds no VM of that name — mend the name in the plan, or read the source again: mtv inventory boxes" in error
    )


def test_every_vm_that_cannot_be_approved_is_told_at_once(plan: Path, capsys: Output) -> None:
    judged(plan.parent, critical("ova.other"))
    plan.write_text(PLAN.replace("vms: [{name", "vms: [{name: nobody}, {name: noone}, {name"))
    assert main(["plan", "approve", str(plan), "--by", "jane"]) == 1
    seen = capsys.readouterr()
    assert "wave pilot: Critical: ova.other is bad: app-1" in seen.out
    lines = [line for line in seen.err.splitlines() if line.startswith("mtv: ")]
    assert [line.split()[1] for line in lines[:2]] == ["nobody", "noone"]
    assert lines[2].startswith("mtv: not approved: app-1 cannot be migrated as it is")


def test_a_vm_whose_name_another_has_is_not_approved_and_a_new_look_alone_is_not_advised(
    plan: Path, tmp_path: Path, capsys: Output
) -> None:
    write_tar(tmp_path / "ova" / "b.ova", {"b.ovf": envelope(system("app-1"))})
    main(["inventory", "boxes"])
    capsys.readouterr()
    assert main(["plan", "approve", str(plan), "--by", "jane"]) == 1
    error = capsys.readouterr().err
    assert "the inventory of boxes holds 2 VMs of that name — rename all but one of them on the source" in error


def test_a_wave_that_the_plan_has_not_is_answered_with_those_it_has(plan: Path, capsys: Output) -> None:
    assert main(["plan", "approve", str(plan), "--by", "jane", "--wave", "nowave"]) == 1
    assert "has no wave nowave — it has pilot" in capsys.readouterr().err


def test_show_tells_maps_limits_accepted_concerns_and_what_each_vm_chose(plan: Path, capsys: Output) -> None:
    assert main(["plan", "show", str(plan)]) == 0
    lines = capsys.readouterr().out.splitlines()
    for line in (
        "network VM Network → n/app",
        "network * → the pod network",
        "storage * → fast (Block)",
        "storage odd → the default class",
        "bandwidth of a VM: 50M from 07:00 to 19:00; 400M (UTC)",
        "accepted: ova.source.unsupported of app-1 by jane: tested by hand",
    ):
        assert line in lines
    (row,) = [line for line in lines if line.startswith("app-1 ")]
    for option in ("verify=sampled", "preflight", "luks=keys", "no preserve_static_ips", "boot_proof.throw_away"):
        assert option in row


def test_a_concern_is_accepted_for_vms_of_the_plan_only_and_with_a_reason(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(PLAN.replace("vms: [app-1]}", "vms: [app-2]}"))
    (problem,) = load(file).problems
    assert "the plan holds no VM with the id app-2" in str(problem)
    assert "did you mean app-1" in str(problem)
    file.write_text(PLAN.replace("reason: tested by hand, ", ""))
    (problem,) = load(file).problems
    assert "reason" in str(problem)
