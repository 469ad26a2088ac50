"""`mtv validate`: conditions of plan and target beside the concerns of each VM."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mtv.cli import main
from tests.providers.conftest import NAMESPACES, envelope, system, write_tar

RULES = Path(__file__).parents[2] / "include" / "validation_rules"


def test_a_target_that_cannot_be_used_blocks_the_plan_and_its_vms_are_judged_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ova").mkdir()
    write_tar(tmp_path / "ova" / "a.ova", {"a.ovf": envelope(system("app-1"))})
    connections = tmp_path / "connections.json"
    connections.write_text(
        json.dumps({"boxes": {"conn_type": "ova", "extra": {"path": str(tmp_path / "ova"), "insecure": True}}})
    )
    connections.chmod(0o600)
    monkeypatch.setenv("MTV_CONNECTIONS_FILE", str(connections))
    monkeypatch.setenv("MTV_RULES_FOLDER", str(RULES))
    plan = tmp_path / "p.csv"
    plan.write_text("vm,source,target,namespace\napp-1,boxes,cluster,n\nnobody,boxes,cluster,n\n")
    assert main(["validate", str(plan)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("wave 1: Critical: The target cluster cannot be used: ") for line in lines)
    assert any("Warning: The certificate of connection boxes is not verified" in line for line in lines)
    assert any("/nobody: blocked, " in line for line in lines)
    assert "  Critical: nobody is not in the inventory" in "\n".join(lines)
    assert "  Critical: app-1 has no disks" in "\n".join(lines)


def test_concerns_are_listed_once_with_their_vms_and_the_same_is_to_be_had_as_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ova").mkdir()
    systems = system("app-1", "disk-file1") + system("app-2", "disk-file1")
    collection = f'<VirtualSystemCollection ovf:id="both"><Info/>{systems}</VirtualSystemCollection>'
    descriptor = envelope(collection, namespaces=NAMESPACES.partition(" xmlns:vmw")[0])
    write_tar(tmp_path / "ova" / "a.ova", {"a.ovf": descriptor, "disk1.vmdk": b"x" * (1 << 20)})
    connections = tmp_path / "connections.json"
    connections.write_text(json.dumps({"boxes": {"conn_type": "ova", "extra": {"path": str(tmp_path / "ova")}}}))
    connections.chmod(0o600)
    monkeypatch.setenv("MTV_CONNECTIONS_FILE", str(connections))
    monkeypatch.setenv("MTV_RULES_FOLDER", str(RULES))
    plan = tmp_path / "p.yaml"
    plan.write_text(
        "source: {connection: boxes}\ntarget: {connection: cluster, namespace: n}\nstorage_map: {}\n"
        "accept_concerns: [{id: plan.storage.not_mapped, by: jane, reason: tried out, vms: [app-2]}]\n"
        "waves: {w: {vms: [app-1, app-2]}}\n"
    )
    assert main(["validate", str(plan)]) == 1
    out = capsys.readouterr().out
    header = next(line for line in out.splitlines() if line.startswith("CATEGORY"))
    assert header.split() == ["CATEGORY", "CONCERN", "VMS", "WHAT", "WHICH"]
    assert main(["validate", str(plan), "--json"]) == 1
    (wave,) = json.loads(capsys.readouterr().out)["waves"]
    assert [(vm["id"], vm["verdict"]) for vm in wave["vms"]] == [
        ("app-1", "blocked"),
        ("app-2", "blocked with its plan"),
    ]
    grouped = {(one["id"], "accepted" in one): one["vms"] for one in wave["concerns"]}
    assert grouped["plan.storage.not_mapped", False] == ["app-1"]
    assert grouped["plan.storage.not_mapped", True] == ["app-2"]
    assert grouped["ova.source.unsupported", False] == ["app-1", "app-2"]
    assert set(wave["rules"]) == {"boxes"}
    assert [one["type"] for one in wave["conditions"]] == ["DestinationProviderNotValid"]
