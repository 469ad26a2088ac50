"""The `mtv` command, run as people run it: a process of its own, its output and its exit code."""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mtv.cli import main
from mtv.cli.columns import table
from mtv.cli.examples import EXAMPLES
from mtv.cli.main import handler, parser, with_default
from mtv.store import Store, default_dsn
from tests.reporting.sample import fill

ROOT = Path(__file__).parents[2]
FIRST_WAVE = ROOT / "include" / "plans" / "01-first-wave.yaml"


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder of its own; no connections."""
    monkeypatch.setenv("MTV_STATE_FOLDER", str(tmp_path / "state"))
    monkeypatch.setenv("MTV_RULES_FOLDER", str(ROOT / "include" / "validation_rules"))
    monkeypatch.delenv("MTV_CONNECTIONS_FILE", raising=False)
    return tmp_path / "state"


@pytest.fixture
def run_id(state: Path) -> str:
    with Store.open(default_dsn(state)) as store:
        store.upgrade()
        return fill(store)


def test_a_good_plan_checks_and_a_bad_one_prints_each_problem_on_a_line(state: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.csv"
    bad.write_text("vm,source,target,namespace,type\nx,v,c,n,hot\ny,v,c,n,icy\n")
    ended = subprocess.run(
        [sys.executable, "-m", "mtv.cli", "plan", "check", FIRST_WAVE, bad],
        check=False, capture_output=True, text=True, env=os.environ,
    )  # fmt: skip
    assert ended.returncode == 1
    assert ended.stdout.splitlines() == [
        f"{FIRST_WAVE}: fine: plan 01-first-wave, 1 wave, 3 VMs",
        f"{bad}:2:5: type is 'hot' — use cold or warm",
        f"{bad}:3:5: type is 'icy' — use cold or warm",
    ]


def test_a_folder_of_plans_is_checked_whole(state: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["plan", "check", str(FIRST_WAVE.parent)]) == 0
    assert "01-first-wave.yaml: fine" in capsys.readouterr().out
    assert main(["plan", "check", str(tmp_path)]) == 1
    assert "no plan in this folder" in capsys.readouterr().out


def test_what_is_not_built_yet_fails_the_check(state: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    plan = tmp_path / "p.csv"
    plan.write_text("vm,source,target,namespace,type\nx,v,c,n,warm\n")
    assert main(["plan", "check", str(plan)]) == 1
    assert f"{plan}:2:5: wave 1: VM x is to move warm" in capsys.readouterr().out
    assert main(["plan", "show", str(plan)]) == 0
    assert "status: Not ready" in capsys.readouterr().out


def test_show_tells_every_decided_option_and_makes_no_store(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "show", str(FIRST_WAVE)]) == 0
    out = capsys.readouterr().out
    assert "status: Ready" in out
    assert "app-1  lab-ova" in out
    assert not state.exists()


def test_show_tells_what_the_store_knows(state: Path, run_id: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "show", str(FIRST_WAVE)]) == 0
    out = capsys.readouterr().out
    assert "status: Completed" in out, "all three VMs of this plan are migrated in the sample"
    assert out.count("migrated") == 3


def test_the_schema_is_json(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "schema"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "mtv migration plan"


def test_report_writes_three_files_and_names_them(
    state: Path, run_id: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["report", "last"]) == 0
    first, *paths = capsys.readouterr().out.splitlines()
    assert first.startswith("3 of 6 VMs migrated")
    assert [Path(path).name for path in paths] == ["report.html", "report.csv", "report.json"]
    assert all(Path(path).is_file() and Path(path).is_relative_to(state) for path in paths)
    assert main(["report", run_id, "--folder", str(tmp_path / "elsewhere")]) == 0
    assert (tmp_path / "elsewhere" / run_id / "report.html").is_file()


def test_runs_are_listed(state: Path, run_id: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs"]) == 0
    assert f"{run_id}  01-first-wave  first  failed    6" in capsys.readouterr().out
    assert main(["runs", "--plan", "other"]) == 0
    assert capsys.readouterr().out == "no run yet\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["report", "nope"], "mtv: there is no run yet: there is no store in "),
        (["report", "last"], "mtv: there is no run yet: there is no store in "),
        (["inventory", "vc"], "mtv: no connections are known: MTV_CONNECTIONS_FILE is not set"),
        (["plan", "show", "/nowhere.yaml"], "/nowhere.yaml: there is no such plan file"),
        (["rules", "test", "--folder", "/nowhere"], "mtv: /nowhere holds no rules"),
        (["rules", "list", "--folder", "/nowhere"], "mtv: /nowhere holds no rules"),
        (["plan", "show", "/"], "/: this is a folder — name a .yaml or .csv file"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_errors_are_one_line_with_a_cure(
    arguments: list[str], words: str, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith(words)
    assert "Traceback" not in error


def test_a_run_that_the_store_does_not_have_is_told_with_where_to_look(
    run_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", "nope"]) == 1
    assert capsys.readouterr().err == "mtv: the store has no run nope — `mtv runs` lists them\n"


def test_wrong_arguments_exit_with_2(state: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["plan", "chek", "x"])
    assert ended.value.code == 2


def test_the_help_shows_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    out = capsys.readouterr().out
    assert "mtv plan check include/plans" in out
    assert "exit codes" in out


def test_every_example_of_the_help_is_a_command_that_is_understood() -> None:
    helps = [parser().epilog or "", *EXAMPLES.values()]
    lines = [line.strip() for text in helps for line in text.splitlines() if line.startswith("  mtv ")]
    assert len(lines) > 25
    for line in lines:
        command = re.split(r"\s{2,}|\s[|>]\s", line)[0]  # before a remark, a pipe or a file
        parser().parse_args(with_default(shlex.split(command)[1:]))


def handlers(of: argparse.ArgumentParser) -> Iterator[str]:
    """The names of the functions of all commands below a parser."""
    if name := of.get_default("handler"):
        yield name
    for action in of._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from handlers(below)


def test_every_command_has_its_function() -> None:
    names = list(handlers(parser()))
    assert len(names) > 10
    assert all(callable(handler(name)) for name in names)


@pytest.mark.parametrize(
    "words",
    [["--help"], ["rules", "list"], ["plan", "check", "include/plans/01-first-wave.yaml"], ["plan", "schema"]],
    ids=" ".join,
)
def test_what_needs_no_source_and_no_store_loads_no_sdk_and_no_database(state: Path, words: list[str]) -> None:
    code = (
        "import sys\n"
        "from mtv.cli import main\n"
        "try:\n"
        "    main(sys.argv[1:])\n"
        "finally:\n"
        "    sdks = {'kubernetes', 'pyVmomi', 'ovirtsdk4', 'openstack'}\n"
        "    heavy = sdks | {'sqlalchemy', 'pandas', 'great_expectations'}\n"
        "    assert not heavy & sys.modules.keys()\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, *words], check=False, capture_output=True, text=True, env=os.environ
    )
    assert (ended.returncode, ended.stderr) == (0, "")


def test_rules_examples_are_run_for_every_provider(
    state: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["rules", "test"]) == 0
    assert "vmware: " in capsys.readouterr().out
    (tmp_path / "rules" / "vmware").mkdir(parents=True)
    (tmp_path / "rules" / "vmware" / "broken.yaml").write_text("id: [")
    assert main(["rules", "test", "--folder", str(tmp_path / "rules")]) == 1
    assert "broken.yaml" in capsys.readouterr().out


def test_the_store_of_the_connection_mtv_store_is_used(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "connections.json"
    file.write_text(json.dumps({"mtv_store": {"conn_type": "sqlite", "host": str(tmp_path / "mine.sqlite")}}))
    file.chmod(0o600)
    monkeypatch.setenv("MTV_CONNECTIONS_FILE", str(file))
    assert main(["store", "upgrade"]) == 0
    assert (tmp_path / "mine.sqlite").is_file()
    assert not state.exists()
    assert main(["inventory", "vcenter"]) == 1
    assert "no connection 'vcenter'" in capsys.readouterr().err


def test_a_reader_that_leaves_early_is_no_error(state: Path) -> None:
    reader = subprocess.run(
        ["sh", "-c", '"$0" -m mtv.cli plan schema | head -1', sys.executable],
        check=True, capture_output=True, text=True, env=os.environ,
    )  # fmt: skip
    assert reader.stdout == "{\n"
    assert reader.stderr == ""


def test_names_from_elsewhere_cannot_steer_the_terminal() -> None:
    text = table(("VM", "CPUS"), [("evil\x1b[2J\n", 2), ("ü", 16)], right=(1,))
    assert "\x1b" not in text
    assert text.splitlines() == ["VM         CPUS", "evil�[2J�     2", "ü            16"]


def test_rules_are_listed_with_the_ids_that_a_plan_accepts(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rules", "list", "--provider", "ova"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("CATEGORY ")
    assert "ova.source.unsupported" in out
    assert "vmware." not in out
    assert re.search(r"^Critical +ova\.disk\.capacity\.invalid +Disk \{", out, re.MULTILINE), "as it is written"
    assert main(["rules", "list"]) == 0
    assert "vmware." in capsys.readouterr().out


def test_rules_of_an_unknown_provider_are_answered_with_those_that_there_are(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "vms.jsonl").write_text("{}\n")
    for command in (["evaluate", str(tmp_path / "vms.jsonl")], ["list"]):
        assert main(["rules", *command, "--provider", "vmwear"]) == 1
        assert "there are rules for hyperv, openstack, ova, ovirt, vmware" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command", [[], ["plan"], ["rules"], ["inventory"], ["runs"]], ids=lambda words: " ".join(words) or "mtv"
)
def test_the_help_of_each_group_has_examples_and_its_words_fit_a_terminal(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*command, "--help"])
    assert ended.value.code == 0
    words, _, examples = capsys.readouterr().out.partition("examples:")
    assert f"  mtv {' '.join(command)}" in examples
    assert max(map(len, words.splitlines())) <= 80


def test_a_missing_connection_is_asked_for_by_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["inventory"])
    assert "the following arguments are required: CONNECTION" in capsys.readouterr().err
