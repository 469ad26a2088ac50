"""`mtv validate`: conditions of plan and target beside the concerns of each VM."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import pytest

from mtv.cli import columns, main
from mtv.store import default_dsn
from tests.providers.conftest import NAMESPACES, envelope, system, write_tar
from tests.store.schemas import NEWER, turn_into

RULES = Path(__file__).parents[2] / "include" / "validation_rules"


def boxes(folder: Path, monkeypatch: pytest.MonkeyPatch, names: Iterable[str]) -> None:
    """A connection `boxes` to an appliance of VMs that lie on the same disk."""
    (folder / "ova").mkdir()
    systems = "".join(system(name, "disk-file1") for name in names)
    collection = f'<VirtualSystemCollection ovf:id="all"><Info/>{systems}</VirtualSystemCollection>'
    descriptor = envelope(collection, namespaces=NAMESPACES.partition(" xmlns:vmw")[0])
    write_tar(folder / "ova" / "a.ova", {"a.ovf": descriptor, "disk1.vmdk": b"x" * (1 << 20)})
    connections = folder / "connections.json"
    connections.write_text(json.dumps({"boxes": {"conn_type": "ova", "extra": {"path": str(folder / "ova")}}}))
    connections.chmod(0o600)
    monkeypatch.setenv("MTV_CONNECTIONS_FILE", str(connections))
    monkeypatch.setenv("MTV_RULES_FOLDER", str(RULES))


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
    assert ["nobody", "blocked", "1", "0", "0"] in [line.split() for line in lines]
    assert "wave 1: Critical: nobody is not in the inventory: nobody" in lines
    assert "wave 1: Critical: app-1 has no disks: app-1" in lines
    assert lines[-1] == "wave 1: 1 VM read, 2 judged: 2 blocked"


def test_a_misspelt_vm_is_told_with_the_one_that_may_be_meant_once_an_inventory_was_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    boxes(tmp_path, monkeypatch, ["app-1", "db-1"])
    monkeypatch.setenv("MTV_STATE_FOLDER", str(tmp_path / "state"))
    plan = tmp_path / "p.csv"
    plan.write_text("vm,source,target,namespace\nApp_1,boxes,cluster,n\n")
    assert main(["validate", str(plan)]) == 1
    assert "which may be meant" not in capsys.readouterr().out
    assert not (tmp_path / "state").exists()
    assert main(["inventory", "boxes"]) == 0
    assert main(["validate", str(plan)]) == 1
    assert "There is 'app-1', which may be meant to be it." in capsys.readouterr().out
    turn_into(default_dsn(tmp_path / "state"), NEWER)  # its verdicts do not hang on the store
    assert main(["validate", str(plan)]) == 1
    said = capsys.readouterr()
    assert "1 judged" in said.out
    assert said.err.startswith("VMs of like names are not told: the store is newer than this mtv: ")


def test_concerns_are_listed_once_with_their_vms_and_the_same_is_to_be_had_as_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    boxes(tmp_path, monkeypatch, ["app-1", "app-2"])
    plan = tmp_path / "p.yaml"
    plan.write_text(
        "source: {connection: boxes}\ntarget: {connection: cluster, namespace: n}\nstorage_map: {}\n"
        "accept_concerns: [{id: plan.storage.not_mapped, by: jane, reason: tried out, vms: [app-2]}]\n"
        "waves: {w: {vms: [app-1, app-2]}}\n"
    )
    assert main(["validate", str(plan)]) == 1
    out = capsys.readouterr().out
    assert "(accepted by jane: tried out): app-2\n    plan.storage.not_mapped: " in out
    assert out.count("    plan.storage.not_mapped: ") == 1
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


@pytest.fixture
def fifty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A plan of fifty VMs of one appliance that have the same concerns."""
    names = [f"app-{number:02d}" for number in range(50)]
    boxes(tmp_path, monkeypatch, names)
    monkeypatch.setenv("MTV_STATE_FOLDER", str(tmp_path / "state"))
    plan = tmp_path / "p.yaml"
    plan.write_text(
        "source: {connection: boxes}\ntarget: {connection: cluster, namespace: n}\n"
        f"storage_map: {{Disk_File1: {{storage_class: c}}}}\nwaves: {{w: {{vms: [{', '.join(names)}]}}}}\n"
    )
    return plan


def test_what_fifty_vms_have_in_common_is_told_once_and_fits_a_terminal_and_is_whole_in_a_pipe(
    fifty: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    every = ", ".join(f"app-{number:02d}" for number in range(50))
    assert main(["validate", str(fifty)]) == 1
    piped = capsys.readouterr().out
    assert f"wave w: Critical: Storage 'disk-file1' is not mapped (50 VMs): {every}\n" in piped
    assert piped.count("A disk lies on it.") == 1
    assert "There is 'Disk_File1', which may be meant to be it." in piped
    assert "wave w: 50 VMs read, 50 judged: 50 blocked\n" in piped

    monkeypatch.setattr(columns, "terminal_width", lambda: 80)
    assert main(["validate", str(fifty)]) == 1
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    assert sorted("".join(shown.split())) == sorted("".join(piped.split()))


def test_an_approval_tells_what_fifty_vms_have_in_common_once(fifty: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inventory", "boxes"]) == 0
    capsys.readouterr()
    main(["plan", "approve", str(fifty), "--by", "jane"])
    seen = capsys.readouterr()
    assert seen.err.splitlines()[0] == "boxes: 50 of 50 VMs validated, the others have not changed"
    told = [line for line in seen.out.splitlines() if " (50 VMs): app-00, app-01, " in line]
    assert told
    assert not [line for line in seen.out.splitlines() + seen.err.splitlines()[1:] if line.startswith("app-")]
