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
        (["show", "boxes", "app-1"], "no inventory of boxes has been taken yet: there is no store in "),
        (["diff", "boxes", "--since", "2h"], "no inventory of boxes has been taken yet"),
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
    assert "has no VM 'nobody' — take it anew: mtv inventory boxes" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["show", "boxes", "APP-1"], "has no VM 'APP-1' — did you mean 'app-1'? Else take it anew"),
        (["show", "boxes", "app-1", "--at", "2999-01-01"], "'2999-01-01' lies in the future"),
        (["diff", "boxes", "--since", "2999-01-01"], "'2999-01-01' lies in the future"),
        (["diff", "boxes", "--since", "1h", "--until", "2h"], "goes back to 20"),
        (["diff", "boxes", "--until", "yesterday"], "'yesterday' is not a moment — write one of: 2h"),
    ],
    ids=" ".join,
)
def test_a_name_or_moment_that_is_wrong_is_not_answered_with_another(
    arguments: list[str], words: str, folder: Path, capsys: Output
) -> None:
    main(["inventory", "boxes"])
    capsys.readouterr()
    assert main(["inventory", *arguments]) == 1
    seen = capsys.readouterr()
    assert words in seen.err
    assert seen.out == ""


def test_a_span_that_ends_before_it_begins_is_refused(folder: Path, tmp_path: Path, capsys: Output) -> None:
    main(["inventory", "boxes"])
    with Store.open(default_dsn(tmp_path / "state")) as store:
        moment = store.inventory_moment("boxes")
    assert moment is not None
    capsys.readouterr()
    spans = ["--since", datetime.now(UTC).isoformat(), "--until", moment.taken_at.isoformat()]
    assert main(["inventory", "diff", "boxes", *spans]) == 1
    assert "lies after --until" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["show", "boxes", "app-1"], ["diff", "boxes"]], ids=" ".join)
def test_looking_makes_no_store_and_says_where_it_looked(
    arguments: list[str], folder: Path, tmp_path: Path, capsys: Output
) -> None:
    assert main(["inventory", *arguments]) == 1
    assert f"there is no store in {tmp_path / 'state'}" in capsys.readouterr().err
    assert not (tmp_path / "state").exists()


def test_a_source_without_vms_says_so_without_an_empty_table(folder: Path, capsys: Output) -> None:
    (folder / "a.ova").unlink()
    assert main(["inventory", "boxes"]) == 0
    out = capsys.readouterr().out
    assert "no appliance files (.ova, .ovf) in it" in out
    assert "0 VMs" in out
    assert "FIRMWARE" not in out


@pytest.mark.parametrize("place", ["file", "database"])
def test_a_store_that_cannot_be_used_is_an_error_in_words(
    place: str, folder: Path, tmp_path: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    if place == "file":  # where a folder must be made
        (tmp_path / "taken").write_text("")
        monkeypatch.setenv("MTV_STATE_FOLDER", str(tmp_path / "taken" / "state"))
    else:
        (tmp_path / "state").mkdir()
        (tmp_path / "state" / "store.sqlite").write_text("no database, whatever its name says")
    assert main(["inventory", "boxes"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("mtv: the store")
    assert "MTV_STATE_FOLDER" in error
    assert len(error.splitlines()) == 1


def test_a_database_that_does_not_answer_is_tried_again_and_its_password_not_told(
    folder: Path, tmp_path: Path, capsys: Output
) -> None:
    connections = tmp_path / "connections.json"
    entries = json.loads(connections.read_text())
    entries["mtv_store"] = {"conn_type": "postgres", "host": "127.0.0.1", "port": 1, "login": "mtv",
                            "password": "canary-p4ss", "schema": "mtv"}  # fmt: skip
    connections.write_text(json.dumps(entries))
    assert main(["inventory", "boxes"]) == 75
    error = capsys.readouterr().err
    assert error.startswith("mtv: the store mtv on 127.0.0.1 cannot be used: ")
    assert "canary" not in error
    assert len(error.splitlines()) == 1


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
    second = timedelta(microseconds=999_999)  # moments are shown without their fraction, and found as shown
    assert instant("2026-11-25") == datetime(2026, 11, 25, tzinfo=UTC) + second
    assert instant("2026-11-25T13:00+01:00") == now + second
    assert instant("2026-11-25T13:00:00.25+01:00") == now + timedelta(seconds=0.25)
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
    assert "Critical  VMNotFound  NotFound  app-1 is away  app-1" in out
    assert "  → bring it back" in out
    file.write_text("vm,source,target,namespace\napp-1,boxes,cluster,n2\n")
    assert main(["plan", "show", str(file)]) == 0
    assert "it has changed since an inventory judged it" in capsys.readouterr().out
