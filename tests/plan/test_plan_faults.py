# ruff: noqa: E501  the tables of faults are read by rows
"""Every fault of a plan file is reported: all in one go, at its place, with a cure; nothing that is no fault."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mtv.model.plan import Plan, VmOptions
from mtv.plan import Problem, load
from tests.plan.files import lone_rows, write_csv, write_yaml, yaml_form
from tests.strategies import plans

same_folder = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=25
)
many_in_one_folder = settings(same_folder, max_examples=120)
HEAD = "source: {connection: v}\ntarget: {connection: c, namespace: n}\n"


def problems_of(path: Path) -> list[Problem]:
    result = load(path)
    assert (result.plan is None) == bool(result.problems)
    return list(result.problems)


def of_yaml(folder: Path, text: str) -> list[str]:
    (folder / "p.yaml").write_text(text, encoding="utf-8")
    return [str(problem).removeprefix(f"{folder / 'p.yaml'}:") for problem in problems_of(folder / "p.yaml")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{HEAD}waves: {{a: {{vms: [x]}}}}\ntargt: 1\n", "4:1: unknown key targt — did you mean target?"),
        (f"{HEAD}waves: {{a: {{vms: [{{name: x, targetPowerState: off}}]}}}}\n", "3:29: unknown key targetPowerState — did you mean target_power_state?"),
        (f"{HEAD}defaults:\n  type: hot\nwaves: {{a: {{vms: [x]}}}}\n", "4:9: type is 'hot' — use cold or warm"),
        (f"{HEAD}waves:\n  a:\n    vms: [{{name: 10}}]\n", "5:18: name is the number 10, not text — put it in quotes"),
        (f"{HEAD}waves:\n  Pilot: {{vms: [x]}}\n", "4:3: name 'Pilot' is not a valid name — use lower-case"),
        (f"{HEAD}waves:\n  precopy: {{vms: [x]}}\n", "4:3: the wave name precopy is reserved — choose"),
        (f"name: inventory\n{HEAD}waves: {{a: {{vms: [x]}}}}\n", "1:7: the plan name inventory is reserved — choose"),
        (f"{HEAD}waves:\n  a: {{vms: [x]}}\n  b: {{start_after: [aa], vms: [y]}}\n", "5:21: there is no wave aa — did you mean a?"),
        (f"{HEAD}waves:\n  a: {{start_after: [b], vms: [x]}}\n  b: {{start_after: [a], vms: [y]}}\n", "4:20: wave a waits for itself — take"),
        ("target: {connection: c, namespace: n}\nwaves: {a: {vms: [x]}}\n", "2:19: nothing says where VM x comes from — add a source"),
        (f"{HEAD}waves:\n  a: {{vms: [x, y, x]}}\n", "4:19: VM x stands in the plan already, in"),
        (f"{HEAD}waves:\n  a: {{vms: [My VM, my-vm]}}\n", "4:20: VM my-vm has the id my-vm, as VM My VM has in"),
        (f"{HEAD}waves:\n  a: {{vms: [{{name: x, target_name: y}}, y]}}\n", "4:40: VM y becomes y on the target, as VM x does in"),
        (f"{HEAD}waves: {{a: {{}}}}\n", "3:9: wave a has no VMs — add"),
        (f"{HEAD}waves: []\n", "3:8: waves is not a mapping — write"),
        (f"{HEAD}storage_map: {{'*': std}}\nwaves: {{a: {{vms: [x]}}}}\n", "3:20: * is the text 'std', not a mapping — write `\"*\": {{storage_class: …}}`".replace("{{", "{").replace("}}", "}")),
        (f"{HEAD}network_map: {{lan: pod}}\nwaves: {{a: {{vms: [x]}}}}\n", "3:20: lan is the text 'pod', not a mapping — write `lan: {type: …}`"),
        (f"{HEAD}waves: {{a: {{vms: [5678]}}}}\n", "3:19: a VM is a name or a mapping, not 5678 — write `{name: \"…\"}`"),
        (f"{HEAD}waves: {{a: {{defaults: {{luks: [k]}}, vms: [x]}}}}\n", "3:30: defaults.luks is a list, not text — write `luks: text`"),
        (HEAD, "1:1: waves are missing — add"),
        ("- a\n", "1:1: a plan is a mapping — begin"),
        ("a: &x 1\n", "1:4: anchors and aliases are not allowed in a plan — write"),
        ("a: !!set {}\n", "1:4: tags are not allowed in a plan — remove"),
        (f"{HEAD}waves: {{a: {{vms: [x]}}}}\nname: a\nname: b\n", "5:1: key name stands here a second time (first in line 4) — keep"),
        ("a: 1\n---\nb: 2\n", "2:1: a second document in the file — one file is one plan"),
        ("a: [1,\n", "2:1: this is not YAML: while parsing a flow"),
        ("a: \x01\n", "1:4: a character that YAML forbids"),
        (f"{HEAD}bandwidth: {{limit: fast}}\nwaves: {{a: {{vms: [x]}}}}\n", "3:20: 'fast' is not a rate — write bytes per second"),
        (f"{HEAD}bandwidth: {{timezone: Mars/Olympus}}\nwaves: {{a: {{vms: [x]}}}}\n", "3:23: there is no time zone 'Mars/Olympus' — use"),
        (f"{HEAD}bandwidth:\n  windows: [{{start: 7, end: '24:00', limit: 1M}}]\nwaves: {{a: {{vms: [x]}}}}\n", "4:21: start is the number 7"),
        (f"{HEAD}bandwidth:\n  windows: [{{start: '07:00', end: '24:00', limit: 1M}}]\nwaves: {{a: {{vms: [x]}}}}\n", "4:35: '24:00' is not a time of day — write HH:MM"),
        (f"{HEAD}bandwidth:\n  windows: [{{start: '07:00', end: '07:00', limit: 1M}}]\nwaves: {{a: {{vms: [x]}}}}\n", "4:35: the window ends at 07:00, when it starts — mend one"),
        (f"{HEAD}network_map:\n  lan: {{type: multus}}\nwaves: {{a: {{vms: [x]}}}}\n", "4:8: network lan goes to multus without a name — add"),
        (f"{HEAD}network_map:\n  lan: {{type: pod, name: a/b}}\nwaves: {{a: {{vms: [x]}}}}\n", "4:26: network lan goes to pod, which has no name"),
        (f"{HEAD}waves: {{a: {{vms: [x], window: {{start: soon, end: 2026-01-01 10:00}}}}}}\n", "3:39: start 'soon' is not a moment — write 2026"),
        (f"{HEAD}waves: {{a: {{vms: [x], window: {{start: 2026-01-02 10:00, end: 2026-01-01 10:00}}}}}}\n", "3:62: the window ends before it starts"),
        (f"{HEAD}scripts: {{hard: {{10_linux_run_x.sh: a}}}}\nwaves: {{a: {{vms: [{{name: x, customization_scripts: ./hart}}]}}}}\n", "4:52: the plan has no set of scripts ./hart — did you mean ./hard?"),
        (f"{HEAD}defaults: {{customization_scripts: A_b}}\nwaves: {{a: {{vms: [x]}}}}\n", "3:35: 'A_b' names no ConfigMap — use lower-case letters"),
        (f"{HEAD}scripts: {{hard: {{setup.sh: a}}}}\nwaves: {{a: {{vms: [x]}}}}\n", "3:18: the name of script setup.sh does not say when to run it — name it NN_linux_run_"),
        (f"{HEAD}waves: {{a: {{defaults: {{luks: k/e}}, vms: [x]}}}}\n", "3:30: 'k/e' names no Secret — use lower-case"),
        (f"{HEAD}waves: {{a: {{vms: [{{name: x, virtio_win: v.iso}}]}}}}\n", "3:41: 'v.iso' is no place of virtio-win — write /path"),
        (f"{HEAD}waves: {{a: {{vms: [{{name: x, verify_source: perhaps}}]}}}}\n", "3:44: verify_source is 'perhaps' — use true or false"),
        (f"{HEAD}waves: {{a: {{vms: [x], max_vms_in_flight: 0}}}}\n", "3:42: max_vms_in_flight is 0 — input should be greater"),
    ],
    ids=lambda value: re.sub(r"[^a-z0-9]+", "-", value)[:40] if "—" in value else "",
)  # fmt: skip
def test_a_fault_in_yaml_is_named_with_place_and_cure(text: str, expected: str, tmp_path: Path) -> None:
    found = of_yaml(tmp_path, text)
    assert any(line.startswith(expected) for line in found), found


def test_all_faults_are_reported_in_one_go_in_order_of_their_places(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("sourc: 1\ntarget: {connection: c, namespace: N}\nwaves: {a: {typ: 1}}\n")
    (tmp_path / "p.csv").write_text("wave,vm,on_failure\na,x,rollbak\nb,y,hold\n")
    places = [(Path(problem.file).name, problem.line, problem.column) for problem in problems_of(tmp_path / "p.yaml")]
    assert places == sorted(places)
    assert {("p.csv", 2, 3), ("p.csv", 3, 1), ("p.yaml", 1, 1), ("p.yaml", 2, 36), ("p.yaml", 3, 13)} <= set(places)


BAD_CELLS = {
    "type": "hot", "target_power_state": "up", "volume_mode": "Blok", "on_failure": "panic", "verify": "maybe",
    "target_name": "Not_A_Label", "shutdown_timeout_s": "-1", "preserve_static_ips": "perhaps", "network": "a b/c",
    "namespace": "Other", "target": "elsewhere", "wave": "Bad Wave",
}  # fmt: skip


@same_folder
@given(data=st.data())
def test_a_bad_cell_is_reported_with_its_row_and_column(data: st.DataObject, tmp_path: Path) -> None:
    rows = lone_rows(6)
    bad_row, column = data.draw(st.integers(1, 5)), data.draw(st.sampled_from(sorted(BAD_CELLS)))
    rows[bad_row][column] = BAD_CELLS[column]
    order = data.draw(st.permutations(list(rows[0])))
    delimiter = data.draw(st.sampled_from(",;"))
    write_csv(tmp_path / "p.csv", [{key: row[key] for key in order} for row in rows], delimiter=delimiter)
    (problem,) = problems_of(tmp_path / "p.csv")
    assert (problem.line, problem.column) == (bad_row + 2, order.index(column) + 1)
    assert problem.cure
    assert BAD_CELLS[column] in problem.message


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "1:1: the file is empty"),
        (b"vm,source\nx,v\n", "1:1: column target is missing"),
        (b"wave,source,target,namespace\na,v,c,n\n", "1:1: column vm is missing"),
        (b"vm,source,target,namespace,typ\nx,v,c,n,cold\n", "1:5: unknown column typ — did you mean type?"),
        (b"vm,source,target,namespace,vm\nx,v,c,n,y\n", "1:5: column vm stands here a second time"),
        (b"vm,source,target,namespace\n\nx,v,c,n,zz\n", "3:5: a cell without a column: 'zz'"),
        (
            b"vm\tsource\ttarget\tnamespace\nx\tv\tc\tn\n",
            "1:1: unknown column vm\tsource\ttarget\tnamespace — tabs stand",
        ),
        (b"vm,source,,target,namespace\nx,v,hold,c,n\n", "2:3: a cell without a column: 'hold'"),
        (b"vm,source,target,namespace\nx,,c,n\n", "2:2: nothing says where VM x comes from"),
        (b"vm,source,target,namespace,wave\nx,v,c,n,\n", "2:5: VM x has no wave"),
        (b"vm,source,target,namespace\n,v,c,n\n", "2:1: a row without a VM"),
        (b"vm,source,target,namespace\nx,v,c,n\ny,v,d,n\n", "3:3: target d differs from c in row 2"),
        (b'vm,source,target,namespace\nx,v,c,"n\n', "2:1: this row cannot be read"),
        (b"vm,source,target,namespace\nx,v,c,\xff\n", "2:1: the text is not UTF-8"),
        (b"vm,source,target,namespace\nx,v,\0c,n\n", "2:1: a zero byte"),
    ],
    ids=lambda value: re.sub(r"[^a-z0-9]+", "-", value)[:40] if isinstance(value, str) else "",
)
def test_a_fault_of_a_sheet_is_named_with_row_and_column(content: bytes, expected: str, tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_bytes(content)
    found = [str(problem).removeprefix(f"{tmp_path / 'p.csv'}:") for problem in problems_of(tmp_path / "p.csv")]
    assert any(line.startswith(expected) for line in found), found


def test_every_cell_without_a_column_is_named(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_bytes(b"vm,source,,target,namespace,\nx,v,a,c,n, b ,c\n")
    assert [(problem.line, problem.column) for problem in problems_of(tmp_path / "p.csv")] == [(2, 3), (2, 6), (2, 7)]


def test_columns_without_a_name_are_no_fault_while_they_are_empty(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_bytes(b"vm,,source,target,namespace,,\nx,,v,c,n,,\n")
    assert problems_of(tmp_path / "p.csv") == []


@same_folder
@given(plan=plans(max_vms=3), data=st.data())
def test_a_misspelt_key_is_reported_at_its_line_and_column(plan: Plan, data: st.DataObject, tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    lines = write_yaml(path, yaml_form(plan))
    keys = sorted({*VmOptions.model_fields, "connection", "namespace", "max_vms_in_flight", "description"})
    places = [
        (number, match.start(1))
        for number, line in enumerate(lines)
        if (match := re.match(rf"[ -]*({'|'.join(keys)}):", line))
    ]
    number, column = data.draw(st.sampled_from(places))
    name = lines[number][column:].partition(":")[0]
    lines[number] = f"{lines[number][:column]}x{lines[number][column:]}"
    path.write_text("\n".join(lines), encoding="utf-8")
    found = problems_of(path)
    assert (number + 1, column + 1, f"unknown key x{name}") in {(p.line, p.column, p.message) for p in found}


def assert_places_exist(path: Path) -> None:
    """Every place must be somewhere an editor or a spreadsheet can go to."""
    text = path.read_bytes().decode("utf-8-sig", errors="replace")
    lines = re.split(r"\r\n|[\r\n]", text)
    for problem in load(path).problems:
        assert problem.message
        assert 1 <= problem.line <= len(lines), problem
        limit = len(lines[problem.line - 1]) + 1
        assert 1 <= problem.column <= limit, (problem, limit)


SNIPPETS = st.sampled_from(
    ["\n", "  ", ":", "- ", "[", "]", "{", "}", ",", '"', "'", "#", "&a ", "*a", "!x ", "|", ">", "%", "\t", "\x85",
     "\u2028", "\r", "\0", "\ufeff", "~", "? ", "name: ", "waves:", "vms: [", "x", "1", "\U0001f600"]
)  # fmt: skip


@many_in_one_folder
@given(data=st.data())
def test_whatever_stands_in_a_yaml_file_the_places_exist(data: st.DataObject, tmp_path: Path) -> None:
    text = data.draw(
        st.sampled_from(
            [
                "",
                f"{HEAD}defaults: {{type: cold}}\nwaves:\n  a:\n    start_after: []\n    vms:\n    - name: x\n    - y\n",
                f"name: p\n{HEAD}waves: {{a: {{vms: [{{name: x, type: hot}}], window: {{start: a}}}}}}\n",
            ]
        )
    )
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(text)))
        cut = data.draw(st.integers(0, 4))
        text = text[:at] + data.draw(SNIPPETS) + text[at + cut :]
    (tmp_path / "p.yaml").write_bytes(text.encode())
    assert_places_exist(tmp_path / "p.yaml")


@pytest.mark.parametrize(
    "text", ["\r[", "[\r", "\r\r[x", "name: p\rname: [", "\rx: 1\rx: 2", "a:\r  - &b c\r", "\u2028["]
)
def test_places_are_counted_as_editors_count_them(text: str, tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_bytes(text.encode())
    assert problems_of(tmp_path / "p.yaml")
    assert_places_exist(tmp_path / "p.yaml")


@many_in_one_folder
@given(data=st.data())
def test_whatever_stands_in_a_csv_file_the_places_exist(data: st.DataObject, tmp_path: Path) -> None:
    text = "vm,source,target,namespace,wave,type\nx,v,c,n,a,cold\ny,v,c,n,b,warm\n"
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(text)))
        cut = data.draw(st.integers(0, 4))
        text = text[:at] + data.draw(SNIPPETS | st.sampled_from([";", '""'])) + text[at + cut :]
    (tmp_path / "p.csv").write_bytes(text.encode())
    assert_places_exist(tmp_path / "p.csv")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(allow_nan=False) | st.text("ab/- ", max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["name", "vms", "type", "x"]), inner),
    max_leaves=4,
)


@many_in_one_folder
@given(data=st.data())
def test_any_value_in_any_place_is_judged_not_crashed_on(data: st.DataObject, tmp_path: Path) -> None:
    document: dict[str, object] = {
        "name": "p", "source": {"connection": "v"}, "target": {"connection": "c", "namespace": "n"},
        "network_map": {"lan": {"type": "pod"}}, "storage_map": {"*": {"storage_class": "s"}}, "defaults": {},
        "waves": {"a": {"start_after": [], "window": {"start": "2026-01-01 10:00", "end": "2026-01-01 11:00"},
                        "defaults": {}, "vms": [{"name": "x", "id": "x", "target_name": "t", "network": "pod"}]}},
    }  # fmt: skip
    holder: object = document
    while True:
        key = data.draw(st.sampled_from(sorted(holder) if isinstance(holder, dict) else range(len(holder))))  # type: ignore[arg-type]
        inner = holder[key]  # type: ignore[index]
        if not isinstance(inner, dict | list) or not inner or data.draw(st.booleans()):
            holder[key] = data.draw(VALUES)  # type: ignore[index]
            break
        holder = inner
    write_yaml(tmp_path / "p.yaml", document)
    assert_places_exist(tmp_path / "p.yaml")


def test_a_file_that_is_too_large_or_missing_is_one_problem(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("#" * (2 * 1024**2 + 1))
    (problem,) = problems_of(tmp_path / "p.yaml")
    assert "larger than 2 MiB" in problem.message
    (missing,) = problems_of(tmp_path / "q.yaml")
    assert "no such plan file" in missing.message


def test_two_yaml_files_of_one_stem_are_a_fault(tmp_path: Path) -> None:
    for suffix in ("yaml", "yml"):
        (tmp_path / f"p.{suffix}").write_text(f"{HEAD}waves: {{a: {{vms: [x]}}}}\n")
    (problem,) = problems_of(tmp_path / "p.yaml")
    assert problem.message == "p.yaml is beside it"


def test_deep_nesting_is_refused_quickly(tmp_path: Path) -> None:
    (found,) = of_yaml(tmp_path, "a: " + "[" * 5000)
    assert "nested too deeply" in found


def test_faults_of_option_cells_are_named_by_row_and_cell(tmp_path: Path) -> None:
    rows = [{"vm": "a", "luks": "Key", "virtio_win": "claim:d/../x", "customization_scripts": "./none"}]
    write_csv(tmp_path / "p.csv", [{"target": "c", "namespace": "n", "source": "v", **row} for row in rows])
    found = {(problem.line, problem.column): problem for problem in problems_of(tmp_path / "p.csv")}
    assert [found[2, column].message.split(" ", 1)[1] for column in (5, 6)] == [
        "names no Secret",
        "is no place of virtio-win",
    ]
    assert found[2, 7].message == "the plan has no set of scripts ./none"
    assert all(problem.cure for problem in found.values())


def test_faults_of_script_files_are_named_by_file(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(f"{HEAD}scripts: {{s: {{10_linux_run_x.sh: a}}}}\nwaves: {{a: {{vms: [x]}}}}\n")
    folder = tmp_path / "p.scripts" / "s"
    (folder / "20_linux_run_folder.sh").mkdir(parents=True)
    (folder.parent / "10_linux_run_lost.sh").write_text("")
    for name, content in (("x.sh", b""), ("10_linux_run_x.sh", b"b"), ("30_linux_run_y.sh", b"\xff")):
        (folder / name).write_bytes(content)
    found = {Path(problem.file).name: problem.message for problem in problems_of(tmp_path / "p.yaml")}
    assert found == {
        "10_linux_run_lost.sh": "a script that belongs to no set",
        "10_linux_run_x.sh": "script 10_linux_run_x.sh of set s is in the plan's file, too",
        "20_linux_run_folder.sh": "not a file",
        "30_linux_run_y.sh": "the text is not UTF-8",
        "x.sh": "the name of script x.sh does not say when to run it",
    }


def test_what_is_not_built_yet_is_told_beside_other_faults(tmp_path: Path) -> None:
    text = f"{HEAD}bandwidth: {{limit: fast}}\ndefaults: {{type: warm}}\nwaves: {{a: {{schedule: '@daily', vms: [x, {{name: y, type: cold}}]}}}}\n"
    assert [problem.partition(" —")[0] for problem in of_yaml(tmp_path, text)] == [
        "3:20: 'fast' is not a rate",
        "5:23: wave a: schedule",
        "5:39: wave a: VM x is to move warm",
    ]
    (tmp_path / "q.csv").write_text(
        "vm,source,target,namespace,verify,enable_change_tracking\nx,v,c,n,often,yes\ny,v,c,n,full,no\n"
    )
    assert ["verify" in str(one) or "change tracking" in str(one) for one in problems_of(tmp_path / "q.csv")] == [
        True
    ] * 2
