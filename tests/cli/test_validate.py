"""`mtv validate`: conditions of plan and target beside the concerns of each VM."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mtv.cli import main
from tests.providers.conftest import envelope, system, write_tar

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
