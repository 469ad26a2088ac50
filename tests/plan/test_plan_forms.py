"""YAML, YAML with CSV, and CSV alone give the plans that they say."""

from __future__ import annotations

import re
from pathlib import Path

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mtv.model.plan import Plan, VmOptions
from mtv.plan import effective, json_schema, load, not_built_yet
from tests.plan.files import lone_rows, write_csv, write_yaml, yaml_form
from tests.strategies import plans

EXAMPLES = Path(__file__).parents[2] / "include" / "plans"
DOCS = Path(__file__).parents[2] / "docs" / "plan.md"
same_folder = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=15
)


def test_the_plan_that_the_docs_show_checks_with_its_sheet(tmp_path: Path) -> None:
    blocks = re.findall(r"^```(?:yaml)?\n(.*?)^```$", DOCS.read_text(), flags=re.MULTILINE | re.DOTALL)
    (tmp_path / "shop.yaml").write_text(next(block for block in blocks if block.startswith("description:")))
    (tmp_path / "shop.csv").write_text(next(block for block in blocks if block.startswith("wave,vm")))
    assert [wave.name for wave in loaded(tmp_path / "shop.yaml").waves] == ["pilot", "rest"]


def loaded(path: Path) -> Plan:
    result = load(path)
    assert [str(problem) for problem in result.problems] == []
    assert result.plan is not None
    return result.plan


@same_folder
@given(plan=plans())
def test_a_plan_written_as_yaml_is_read_as_it_was(plan: Plan, tmp_path: Path) -> None:
    write_yaml(tmp_path / "p.yaml", yaml_form(plan))
    assert loaded(tmp_path / "p.yaml") == plan


@same_folder
@given(plan=plans(), delimiter=st.sampled_from(",;"), bom=st.booleans(), hint=st.booleans())
def test_vms_may_move_from_the_yaml_to_a_csv(plan: Plan, delimiter: str, bom: bool, hint: bool, tmp_path: Path) -> None:
    document = yaml_form(plan)
    rows = []
    for name, wave in document["waves"].items():
        for vm in wave.pop("vms"):
            row = {"wave": name, "vm": vm.pop("name")}
            for key, value in (vm.pop("boot_proof", None) or {}).items():
                row[f"boot_proof.{key}"] = str(value).lower() if key == "throw_away" else str(value)
            rows.append({**row, **{k: str(v).lower() if isinstance(v, bool) else str(v) for k, v in vm.items()}})
    write_yaml(tmp_path / "p.yaml", document)
    write_csv(tmp_path / "p.csv", rows, delimiter=delimiter, bom=bom, hint=hint)
    assert loaded(tmp_path / "p.csv") == loaded(tmp_path / "p.yaml") == plan


def test_waves_of_a_lone_csv_follow_each_other_in_order_of_first_appearance(tmp_path: Path) -> None:
    rows = [{**row, "wave": wave} for row, wave in zip(lone_rows(4), ["b", "a", "b", "c"], strict=True)]
    write_csv(tmp_path / "dc1.csv", rows, delimiter=";", bom=True)
    plan = loaded(tmp_path / "dc1.csv")
    assert plan.name == "dc1"
    assert [(wave.name, wave.start_after, [vm.id for vm in wave.vms]) for wave in plan.waves] == [
        ("b", (), ["vm-0", "vm-2"]),
        ("a", ("b",), ["vm-1"]),
        ("c", ("a",), ["vm-3"]),
    ]
    assert (plan.target.connection, plan.target.namespace) == ("ocp", "n")
    vm = effective(plan, plan.waves[0], plan.waves[0].vms[0])
    assert (vm.source, vm.storage_class, vm.network, vm.shutdown_timeout_s) == ("vcenter", "fast", "pod", 60)


def test_a_lone_csv_without_waves_is_one_wave(tmp_path: Path) -> None:
    (tmp_path / "dc1.csv").write_text("vm,source,target,namespace\nWEB 1,v,c,n\ndb.2,v,c,n\n")
    (wave,) = loaded(tmp_path / "dc1.csv").waves
    assert wave.name == "1"
    assert [(vm.id, vm.name) for vm in wave.vms] == [("web-1", "WEB 1"), ("db-2", "db.2")]


def test_a_csv_names_the_waves_of_a_yaml_that_has_none(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("source: {connection: v}\ntarget: {connection: c, namespace: n}\n")
    (tmp_path / "p.csv").write_text("wave,vm\nx,a\ny,b\n")
    assert [(wave.name, wave.start_after) for wave in loaded(tmp_path / "p.yaml").waves] == [("x", ()), ("y", ("x",))]


def test_rows_without_a_wave_column_join_the_only_wave(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(
        "source: {connection: v}\ntarget: {connection: c, namespace: n}\nwaves: {pilot: {vms: [z]}}\n"
    )
    (tmp_path / "p.csv").write_text("vm\na\n")
    assert [vm.name for vm in loaded(tmp_path / "p.yaml").waves[0].vms] == ["z", "a"]


def test_words_that_older_yaml_took_for_something_else_stay_words(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(
        "description: 2026-12-05\nsource: {connection: on}\ntarget: {connection: 'yes', namespace: no}\n"
        "waves:\n  1:\n    schedule: 22:00\n    defaults: {target_power_state: off}\n    vms: [{name: 1.2.3}, '10']\n"
    )
    plan = loaded(tmp_path / "p.yaml")
    assert (plan.description, plan.source and plan.source.connection, plan.target.namespace) == (
        "2026-12-05",
        "on",
        "no",
    )
    assert plan.waves[0].schedule == "22:00"
    assert plan.waves[0].defaults.target_power_state == "off"
    assert [vm.name for vm in plan.waves[0].vms] == ["1.2.3", "10"]


@same_folder
@given(plan=plans())
def test_the_nearest_word_on_an_option_wins(plan: Plan, tmp_path: Path) -> None:
    for wave in plan.waves:
        for planned in wave.vms:
            vm = effective(plan, wave, planned)
            for option in ("on_failure", "target_power_state", "verify", "shutdown_timeout_s", "preserve_static_ips"):
                said = [getattr(level, option) for level in (planned, wave.defaults, plan.defaults)]
                nearest = [value for value in said if value is not None]
                if nearest:
                    assert getattr(vm, option) == nearest[0]


def test_what_is_not_built_yet_is_named_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(
        "source: {connection: v}\n"
        "target: {connection: c, namespace: n}\n"
        "waves:\n"
        "  a:\n"
        "    schedule: 0 22 * * SAT\n"
        "    precopy: {interval_s: 600}\n"
        "    vms: [{name: x, type: warm}, {name: y, enable_change_tracking: true}]\n"
        "  b: {vms: [z]}\n"
    )
    result = load(tmp_path / "p.yaml")
    assert result.plan is not None
    found = not_built_yet(result.plan, origins=result.origins)
    assert sorted(problem.line for problem in found) == [5, 6, 7, 7]
    assert not_built_yet(result.plan, "b") == []
    assert [problem.line for problem in not_built_yet(result.plan, "a")] == [0] * 4


def test_the_examples_check_can_be_run_and_fit_the_schema() -> None:
    from ruamel.yaml import YAML

    paths = sorted(EXAMPLES.glob("*.yaml"))
    assert [path.stem for path in paths][:1] == ["01-first-wave"]
    for path in paths:
        assert not_built_yet(loaded(path)) == []
        jsonschema.validate(YAML(typ="safe", pure=True).load(path), json_schema())


def test_the_first_wave_takes_vms_from_two_sources() -> None:
    plan = loaded(EXAMPLES / "01-first-wave.csv")
    (wave,) = plan.waves
    vms = [effective(plan, wave, vm) for vm in wave.vms]
    assert [(vm.id, vm.source) for vm in vms] == [
        ("web-1", "lab-vcenter"),
        ("db-1", "lab-vcenter"),
        ("app-1", "lab-ova"),
    ]
    assert [vm.boot_proof.throw_away for vm in vms] == [False, True, False]


@same_folder
@given(plan=plans())
def test_the_schema_accepts_every_plan_that_checks(plan: Plan, tmp_path: Path) -> None:
    jsonschema.validate(yaml_form(plan), json_schema())


def test_the_schema_refuses_what_the_reader_refuses() -> None:
    good = {"target": {"connection": "c", "namespace": "n"}, "waves": {"a": {"vms": ["x"]}}}
    jsonschema.validate(good, json_schema())
    for change in ({"targt": 1}, {"defaults": {"type": "hot"}}, {"waves": {"A": {}}}, {"waves": {"a": {"vms": [{}]}}}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**good, **change}, json_schema())


def test_ten_thousand_rows_are_one_plan(tmp_path: Path) -> None:
    row = lone_rows(1)[0]
    rows = [{**row, "vm": f"vm-{n}", "target_name": f"new-{n}", "wave": f"w{n // 100}"} for n in range(10_000)]
    write_csv(tmp_path / "big.csv", rows)
    assert sum(len(wave.vms) for wave in loaded(tmp_path / "big.csv").waves) == 10_000


def test_every_option_is_in_the_docs() -> None:
    text = (EXAMPLES.parents[1] / "docs" / "plan.md").read_text(encoding="utf-8")
    assert [name for name in VmOptions.model_fields if f"`{name}" not in text] == []


def test_scripts_of_a_plan_stand_in_its_yaml_or_in_a_folder_beside_it(tmp_path: Path) -> None:
    text = "source: {connection: v}\ntarget: {connection: c, namespace: n}\n"
    text += 'scripts: {inline: {10_linux_run_x.sh: "true"}}\n'
    (tmp_path / "p.yaml").write_text(text + "waves: {a: {defaults: {customization_scripts: ./inline}}}\n")
    (tmp_path / "p.csv").write_text("vm,customization_scripts,luks,verify_source\nweb,./files,keys,true\ndb,,,\n")
    folder = tmp_path / "p.scripts" / "files"
    folder.mkdir(parents=True)
    (folder / "20_win_firstboot_y.ps1").write_text("Write-Output y\n")
    (folder / ".hidden").write_text("")
    plan = loaded(tmp_path / "p.yaml")
    assert plan.scripts == {
        "inline": {"10_linux_run_x.sh": "true"},
        "files": {"20_win_firstboot_y.ps1": "Write-Output y\n"},
    }
    web, db = (effective(plan, plan.waves[0], vm) for vm in plan.waves[0].vms)
    assert (web.customization_scripts, web.luks, web.verify_source) == ("./files", "keys", True)
    assert (db.customization_scripts, db.luks, db.verify_source) == ("./inline", "", False)
