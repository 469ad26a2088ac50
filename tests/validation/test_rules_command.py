"""`mtv rules evaluate` and `mtv rules test`, with rules of one's own beside ours."""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from mtv.cli.main import main

RULES = Path(__file__).parents[2] / "include" / "validation_rules"
OWN = """
id: vmware.own.owner
category: Information
label: Nobody owns {name}
assessment: Ask around.
condition: not filled(owner)
examples:
  fires: [{name: a}]
  silent: [{name: a, owner: b}]
  undefined: [{}]
"""


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MTV_RULES_FOLDER", str(RULES))
    monkeypatch.setenv("MTV_STATE_FOLDER", str(tmp_path / "state"))
    monkeypatch.delenv("MTV_MORE_RULES_FOLDERS", raising=False)


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "own" / "vmware"
    folder.mkdir(parents=True)
    (folder / "owner.yaml").write_text(OWN)
    monkeypatch.setenv("MTV_MORE_RULES_FOLDERS", str(tmp_path / "own"))
    return folder


def evaluated(text: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str], *more: str) -> list[dict[str, Any]]:
    file = tmp_path / "vms.jsonl"
    file.write_bytes(text)
    assert main(["rules", "evaluate", "--provider", "vmware", *more, str(file)]) == 0
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert all(list(answer) == ["concerns", "errors"] for answer in answers)
    return answers


def test_each_line_has_its_answer_in_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [
        b'\xef\xbb\xbf{"name": "first_one", "unheard": {"of": [1]}}',
        b"{no json",
        b"[1, 2]",
        b"   ",
        b'{"name": 7, "tpmEnabled": true}',
        b'{"disks": [{"file": "a", "capacity": 0}, {"file": "b", "capacity": 0}]}',
        b'{"name": "\xff"}',
        b'{"name": "\\ud800"}',
        b'{"name": NaN}',
        b"[" * 100_000,
        b'{"name": "big", "disks": [{"file": "a", "capacity": -1' + b"0" * 6000 + b"}]}",
        b'{"name": "last"}\r',
    ]
    answers = evaluated(b"\n".join(lines), tmp_path, capsys)
    assert [[concern["id"] for concern in answer["concerns"]] for answer in answers] == [
        ["vmware.vm.name.invalid"],
        [],
        [],
        ["vmware.tpm.detected"],
        ["vmware.disk.capacity.invalid", "vmware.disk.capacity.invalid"],
        *[[]] * 6,
    ]
    errors = [" ".join(answer["errors"]) for answer in answers]
    assert [error.split(":")[0] for error in errors] == [
        "",
        "line 2 is not JSON",
        "line 3 is not a JSON object",
        "line 5",
        "line 6",
        *[f"line {number} is not JSON" for number in (7, 8, 9, 10, 11)],
        "",
    ]
    assert "not a text" in errors[3]
    assert "no name" in errors[4]
    assert set(answers[0]["concerns"][0]) == {"id", "category", "label", "assessment"}


def test_documents_may_come_from_standard_input(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'{"name": "a", "ovaSource": "Xen"}\n')))
    assert main(["rules", "evaluate", "--provider", "ova", "-"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert [concern["id"] for concern in json.loads(line)["concerns"]] == ["ova.source.unsupported"]


def test_own_rules_add_to_ours_and_a_broken_one_is_told(
    own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (own / "broken.yaml").write_text("id: [")
    (own / "taken.yaml").write_text(OWN.replace("vmware.own.owner", "vmware.tpm.detected"))
    os.mkfifo(own / "pipe.yaml")
    file = tmp_path / "vms.jsonl"
    file.write_text('{"name": "a", "tpmEnabled": true}')
    assert main(["rules", "evaluate", "--provider", "vsphere", str(file)]) == 0
    out, err = capsys.readouterr()
    assert [concern["id"] for concern in json.loads(out)["concerns"]] == ["vmware.tpm.detected", "vmware.own.owner"]
    assert [name in err for name in ("broken.yaml", "taken.yaml", "pipe.yaml", "owner.yaml")] == [
        True,
        True,
        True,
        False,
    ]


def test_a_folder_of_own_rules_that_is_not_there_is_told_and_silences_no_other(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere = tmp_path / "nowhere"
    monkeypatch.setenv("MTV_MORE_RULES_FOLDERS", os.pathsep.join([str(nowhere), str(own.parent)]))
    file = tmp_path / "vms.jsonl"
    file.write_text('{"name": "a"}')
    assert main(["rules", "evaluate", "--provider", "vmware", str(file)]) == 0
    out, err = capsys.readouterr()
    assert [concern["id"] for concern in json.loads(out)["concerns"]] == ["vmware.own.owner"]
    assert f"{nowhere}: there is no such folder" in err


def test_the_examples_of_own_rules_are_run_too(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rules", "test"]) == 0
    assert "vmware: 30 rules" in capsys.readouterr().out
    (own / "owner.yaml").write_text(OWN.replace("{name: a, owner: b}", "{name: a}"))
    assert main(["rules", "test"]) == 1
    assert "expected silent, saw fires" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--provider", "nobody", os.devnull], "holds no rules"),
        (["--provider", "vmware", "/nowhere.jsonl"], "cannot be read"),
    ],
)
def test_what_cannot_be_done_is_said(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rules", "evaluate", *arguments]) == 1
    assert words in capsys.readouterr().err


def test_no_document_gives_no_answer(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rules", "evaluate", "--provider", "vmware", os.devnull]) == 0
    assert capsys.readouterr().out == ""
