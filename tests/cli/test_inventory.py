"""`mtv inventory`: take it, show a VM, say what changed. The source is a folder of appliances."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mtv.cli import main
from mtv.cli.inventories import instant
from mtv.model.concern import Category, Concern
from mtv.model.condition import Condition, ConditionCategory
from mtv.model.errors import PermanentError
from mtv.plan import load
from mtv.store import Judgement, Store, default_dsn
from mtv.store.runs import hash_of
from tests.providers.conftest import envelope, system, write_tar

Output = pytest.CaptureFixture[str]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one appliance behind the connection `boxes`."""
    (tmp_path / "ova").mkdir()
    connections = tmp_path / "connections.json"
    connections.write_text(json.dumps({"boxes": {"conn_type": "ova", "extra": {"path": str(tmp_path / "ova")}}}))
    connections.chmod(0o600)
    monkeypatch.setenv("MTV_CONNECTIONS_FILE", str(connections))
    monkeypatch.setenv("MTV_STATE_FOLDER", str(tmp_path / "state"))
    appliance(tmp_path / "ova", "512")
    return tmp_path / "ova"


def appliance(folder: Path, memory: str, *disks: str) -> None:
    write_tar(folder / "a.ova", {"a.ovf": envelope(system("app-1", *disks, memory=memory)), "disk1.vmdk": b"x" * 512})


def test_an_inventory_is_kept_and_told_and_a_vm_of_it_shown(folder: Path, capsys: Output) -> None:
    assert main(["inventory", "boxes"]) == 0
    out = capsys.readouterr().out
    assert "1 VM (1 off)" in out
    assert "kept in the store, for the first time" in out

    appliance(folder, "1024")
    assert main(["inventory", "boxes"]) == 0
    assert "vm app-1: memory 512 → 1024 MiB" in capsys.readouterr().out
    assert main(["inventory", "diff", "boxes"]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0].startswith("vm app-1: memory 512 → 1024 MiB")
    assert out.splitlines()[-1].startswith("1 change between 20")

    assert main(["inventory", "show", "boxes", "app-1"]) == 0
    out = capsys.readouterr().out
    assert "2 CPUs, 1024 MiB, bios" in out
    assert "concerns: not validated yet in this state" in out
    assert main(["inventory", "show", "boxes", "app-1", "--json"]) == 0
    (vm,) = json.loads(capsys.readouterr().out)
    assert vm["memory_bytes"] == 1 << 30


def test_show_says_what_rules_said_of_the_vm_as_it_is(folder: Path, tmp_path: Path, capsys: Output) -> None:
    main(["inventory", "boxes"])
    with Store.open(default_dsn(tmp_path / "state")) as store:
        moment = store.inventory_moment("boxes")
        assert moment is not None
        (vm,) = store.inventory(moment, kind="vm")
        concern = Concern(id="x", category=Category.WARNING, label="odd", assessment="look")
        store.put_judgements("boxes", {vm.key: Judgement(digest=vm.digest, rules_version="1", concerns=(concern,))})
    capsys.readouterr()
    assert main(["inventory", "show", "boxes", "app-1"]) == 0
    assert "concerns: 1\n  Warning: odd — look" in capsys.readouterr().out


def test_some_vms_only_are_printed_and_not_kept(folder: Path, tmp_path: Path, capsys: Output) -> None:
    assert main(["inventory", "boxes", "--vm", "app-1"]) == 0
    assert "kept" not in capsys.readouterr().out
    assert not (tmp_path / "state").exists()
    assert main(["inventory", "--vm", "nobody", "boxes"]) == 1
    assert "nobody: the source has no such VM" in capsys.readouterr().err


def test_an_appliance_that_cannot_be_taken_is_named_with_the_reason_and_hides_no_other(
    folder: Path, capsys: Output
) -> None:
    (folder / "broken.ova").write_bytes(b"no tar at all")
    for command in (["inventory", "boxes"], ["inventory", "boxes", "--json"]):
        assert main(command) == 0
        seen = capsys.readouterr()
        assert "app-1" in seen.out
        assert "broken.ova is not taken: " in seen.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["show", "boxes", "app-1"], "no inventory of boxes has been taken yet — mtv inventory boxes"),
        (["diff", "boxes", "--since", "2h"], "no inventory of boxes has been taken yet"),
        (["diff", "boxes", "--until", "yesterday"], "'yesterday' is not a moment — write one of: 2h"),
        (["take", "show"], "no connection 'show'"),
        (["nothing"], "no connection 'nothing'"),
    ],
    ids=" ".join,
)
def test_errors_say_what_to_do(arguments: list[str], words: str, folder: Path, capsys: Output) -> None:
    assert main(["inventory", *arguments]) == 1
    assert words in capsys.readouterr().err


def test_what_lies_before_the_first_look_is_refused_with_its_time(folder: Path, capsys: Output) -> None:
    main(["inventory", "boxes"])
    assert main(["inventory", "diff", "boxes"]) == 1
    assert "was taken once only" in capsys.readouterr().err
    assert main(["inventory", "diff", "boxes", "--since", "2h"]) == 1
    assert "goes back to 20" in capsys.readouterr().err
    assert main(["inventory", "show", "boxes", "nobody"]) == 1
    assert "has no VM 'nobody'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command", [[], ["take"], ["show"], ["diff"]], ids=lambda words: " ".join(words) or "inventory"
)
def test_every_help_has_examples(command: list[str], capsys: Output) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["inventory", *command, "--help"])
    assert ended.value.code == 0
    assert "mtv inventory diff lab-vcenter --since" in capsys.readouterr().out


def test_moments_are_read_as_spans_dates_and_instants() -> None:
    now = datetime(2026, 11, 25, 12, tzinfo=UTC)
    assert instant("90m", now=now) == now - timedelta(minutes=90)
    assert instant("1.5d", now=now) == now - timedelta(hours=36)
    assert instant("2026-11-25") == datetime(2026, 11, 25, tzinfo=UTC)
    assert instant("2026-11-25T13:00+01:00") == now
    for text in ("", "soon", "9999999999w", "2026-13-01"):
        with pytest.raises(PermanentError, match="is not a moment"):
            instant(text, now=now)


def test_plan_show_prints_how_the_plan_stands(folder: Path, tmp_path: Path, capsys: Output) -> None:
    file = tmp_path / "p.csv"
    file.write_text("vm,source,target,namespace\napp-1,boxes,cluster,n\n")
    plan = load(file).plan
    assert plan is not None
    condition = Condition(
        type="VMNotFound", id="i", category=ConditionCategory.CRITICAL, reason="NotFound", message="app-1 is away",
        cure="bring it back", vms=("app-1",),
    )  # fmt: skip
    with Store.open(default_dsn(tmp_path / "state")) as store:
        store.upgrade()
        store.put_standing(plan.name, hash_of(plan), [condition])
    assert main(["plan", "show", str(file)]) == 0
    out = capsys.readouterr().out
    assert "status: Not ready: app-1 is away" in out
    assert "Critical  VMNotFound  NotFound  app-1  app-1 is away" in out
    assert "  → bring it back" in out
    file.write_text("vm,source,target,namespace\napp-1,boxes,cluster,n2\n")
    assert main(["plan", "show", str(file)]) == 0
    assert "it has changed since an inventory judged it" in capsys.readouterr().out
