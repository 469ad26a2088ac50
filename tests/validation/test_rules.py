"""Rule files, ours and broken ones, and the suite that runs them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mtv.model.concern import Category
from mtv.validation import broken_examples, evaluate, load_rules, validate
from mtv.validation.firing import firings, outcome
from mtv.validation.rules import RuleError, read_rule
from mtv.validation.suite import require_agreement, run_suite

RULES = Path(__file__).parents[2] / "include" / "validation_rules"

GOOD = """
id: vmware.test.one
category: Warning
label: One
assessment: One is one.
condition: one == 1
"""


@pytest.mark.parametrize("provider", sorted(folder.name for folder in RULES.iterdir() if folder.is_dir()))
def test_our_rules_load_and_do_what_their_examples_say(provider):
    rules = load_rules(RULES, provider)
    assert rules.problems == ()
    assert rules.rules
    assert [str(broken) for broken in broken_examples(rules)] == []


@pytest.mark.parametrize("provider", sorted(folder.name for folder in RULES.iterdir() if folder.is_dir()))
def test_every_rule_has_examples_on_both_sides_and_three_in_all(provider):
    for rule in load_rules(RULES, provider).rules:
        assert rule.examples["fires"], rule.id
        assert rule.examples["silent"], rule.id
        assert sum(len(documents) for documents in rule.examples.values()) >= 3, rule.id


def test_the_five_shapes_are_there():
    rules = {rule.id: rule for rule in load_rules(RULES, "vsphere").rules}
    assert {
        "vmware.changed_block_tracking.disabled",
        "vmware.cpu_memory.hotplug.enabled",
        "vmware.disk.capacity.invalid",
        "vmware.disk_mode.independent",
        "vmware.os.unsupported",
    } <= set(rules)
    assert rules["vmware.disk.capacity.invalid"].category is Category.CRITICAL
    assert rules["vmware.disk_mode.independent"].table == "disks"
    assert rules["vmware.os.unsupported"].unless is not None


BROKEN = {
    "not-yaml": ("id: [", "line"),
    "no-mapping": ("- a\n", "mapping"),
    "unknown-key": (GOOD + "conditon: x\n", "did you mean 'condition'"),
    "double-key": (GOOD + "label: Two\n", "line"),
    "no-label": (GOOD.replace("label: One\n", ""), "label is missing"),
    "bad-category": (GOOD.replace("Warning", "Fatal"), "Critical, Warning, Information"),
    "bad-condition": (GOOD.replace("one == 1", "one = 1"), "condition: unexpected '='"),
    "constant-condition": (GOOD.replace("one == 1", "1 == 1"), "reads no attribute"),
    "bad-template": (GOOD.replace("label: One", 'label: "One {of"'), "label"),
    "bad-id": (GOOD.replace("vmware.test.one", "One"), "not of the form"),
    "bad-table": (GOOD + 'table: "a b"\n', "table"),
    "bad-examples": (GOOD + "examples: {fire: []}\n", "examples"),
    "anchor": (GOOD + "examples: {fires: [&a {one: 1}]}\n", "anchors"),
    "no-date": (GOOD + "examples: {fires: [{one: 2001-99-99}]}\n", "not YAML"),
    "deep": (GOOD + "examples: " + "[" * 5000, "too deep"),
    "very-deep": (GOOD + "examples: " + "[" * 500_000, "too deep"),
    "very-deep-by-dashes": (GOOD + "examples:\n" + "- " * 400_000, "too deep"),
    "binary": (b"\xff\xfe\x00", "decode"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_reported_and_silences_no_other(tmp_path, name):
    content, said = BROKEN[name]
    folder = tmp_path / "vmware"
    folder.mkdir()
    (folder / "a-good.yaml").write_text(GOOD)
    (folder / "b-broken.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    (folder / "c-good.yml").write_text(GOOD.replace("test.one", "test.two"))
    rules = load_rules(tmp_path, "vmware")
    assert [rule.id for rule in rules.rules] == ["vmware.test.one", "vmware.test.two"]
    (problem,) = rules.problems
    assert "b-broken.yaml" in str(problem)
    assert said in problem.message


def test_an_id_taken_twice_and_a_missing_folder_are_reported(tmp_path):
    (tmp_path / "vmware").mkdir()
    (tmp_path / "vmware" / "a.yaml").write_text(GOOD)
    (tmp_path / "vmware" / "b.yaml").write_text(GOOD)
    assert ["taken by a.yaml" in str(problem) for problem in load_rules(tmp_path, "vmware").problems] == [True]
    assert "no folder" in str(load_rules(tmp_path, "ovirt").problems[0])


def test_the_version_follows_the_files(tmp_path):
    (tmp_path / "vmware").mkdir()
    file = tmp_path / "vmware" / "a.yaml"
    file.write_text(GOOD)
    first = load_rules(tmp_path, "vmware").version
    assert load_rules(tmp_path, "vmware").version == first
    file.write_text(GOOD.replace("One is one", "One is not two"))
    assert load_rules(tmp_path, "vmware").version != first


def test_an_example_that_does_not_come_out_is_told(tmp_path):
    (tmp_path / "vmware").mkdir()
    (tmp_path / "vmware" / "a.yaml").write_text(GOOD + "examples: {fires: [{one: 2}], undefined: [{}]}\n")
    (broken,) = broken_examples(load_rules(tmp_path, "vmware"))
    assert (broken.expected, broken.seen) == ("fires", "silent")


def rule(**changed: str):
    lines = {"id": "x.y", "category": "Warning", "label": "L", "assessment": "A", "condition": "a", **changed}
    return read_rule("\n".join(f"{key}: '{value}'" for key, value in lines.items()), Path("x.yaml"))


def test_texts_are_filled_per_row_and_equal_ones_count_once():
    per_disk = rule(table="disks", condition="bad", label="Disk {file} of {vm.name} {{!}}")
    documents = [{"name": "v", "disks": [{"bad": True, "file": f} for f in ("x", "y", "x")]}]
    rules = load_rules(RULES, "vmware")
    (firing,) = firings(type(rules)(provider="p", rules=(per_disk,), problems=(), version=""), documents)
    assert [concern.label for concern in firing.concerns[0]] == ["Disk x of v {!}", "Disk y of v {!}"]


def test_a_text_that_lacks_its_attribute_keeps_the_rule_silent():
    assert outcome(rule(label="Disk {file}"), {"a": True}) == "undefined"
    assert outcome(rule(label="Disk {file}"), {"a": True, "file": "x"}) == "fires"


def test_a_text_falls_back_to_the_next_attribute_and_at_last_to_the_place_in_the_list():
    per_disk = rule(table="disks", condition="bad", label="Disk {info.name|id|#}")
    documents = [
        {"disks": [{"bad": True, "info": {"name": "n"}, "id": "i"}, {"bad": True, "id": 7}, {"bad": True, "id": ""}]}
    ]
    rules = load_rules(RULES, "vmware")
    (firing,) = firings(type(rules)(provider="p", rules=(per_disk,), problems=(), version=""), documents)
    assert [concern.label for concern in firing.concerns[0]] == ["Disk n", "Disk 7", "Disk 3"]


def test_an_exception_that_is_undefined_excepts_nothing():
    excepted = rule(unless="b")
    assert outcome(excepted, {"a": True}) == "fires"
    assert outcome(excepted, {"a": True, "b": False}) == "fires"
    assert outcome(excepted, {"a": True, "b": True}) == "silent"


def test_a_brace_alone_is_refused():
    with pytest.raises(RuleError, match="lone"):
        rule(label="a } b")


class SocketWatch:
    """Notes every connection and name look-up of this process while it is on (an audit hook cannot be removed)."""

    def __init__(self) -> None:
        self.on = False
        self.seen: list[tuple[object, ...]] = []
        sys.addaudithook(self._note)

    def _note(self, event: str, arguments: tuple[object, ...]) -> None:
        if self.on and event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
            self.seen.append((event, *arguments[1:]))


@pytest.fixture
def sockets():
    watch = SocketWatch()
    watch.on = True
    yield watch
    watch.on = False


def test_the_suite_gives_each_document_its_concerns_gravest_first_and_phones_nobody(sockets):
    documents = [
        {"changeTrackingEnabled": False, "disks": [{"file": "x", "capacity": 0}, {"file": "y", "capacity": -1}]},
        {},
        {"guestId": "debian12_64Guest", "disks": []},
    ]
    rules = load_rules(RULES, "vmware")
    result = validate(rules, documents)
    assert [[concern.id for concern in said] for said in result.concerns] == [
        ["vmware.disk.capacity.invalid", "vmware.disk.capacity.invalid", "vmware.changed_block_tracking.disabled"],
        [],
        ["vmware.os.unsupported"],
    ]
    assert result.concerns[0][0].label != result.concerns[0][1].label
    assert result.result["statistics"]["evaluated_expectations"] == len(rules.rules)
    severities = {
        one["expectation_config"]["kwargs"]["column"]: one["expectation_config"]["severity"]
        for one in result.result["results"]
    }
    assert severities["vmware.disk.capacity.invalid"] == "critical"
    assert sockets.seen == []


def test_the_suite_counts_by_itself_and_another_count_than_the_rules_is_an_error():
    documents = [{"changeTrackingEnabled": False}, {"changeTrackingEnabled": True}, {"changeTrackingEnabled": None}]
    rules = load_rules(RULES, "vmware")
    found = firings(rules, documents)
    result = run_suite(rules, found)
    require_agreement(found, result)
    (one,) = [
        one
        for one in result["results"]
        if one["expectation_config"]["kwargs"]["column"] == "vmware.changed_block_tracking.disabled"
    ]
    assert not one["success"]
    assert one["result"] == {"element_count": 3, "missing_count": 1, "unexpected_count": 1}

    turned = [firing._replace(true=firing.known & ~firing.true) for firing in found]
    with pytest.raises(RuntimeError, match=r"the suite finds \d+ documents for vmware\.\S+, the rule itself \d+"):
        require_agreement(found, run_suite(rules, turned))


def test_a_rule_that_the_suite_could_not_count_is_an_error():
    rules = load_rules(RULES, "vmware")
    found = firings(rules, [{}])
    result = run_suite(rules, found)
    result["results"][0] |= {"result": {}, "exception_info": {"metric": {"exception_message": "no such column"}}}
    with pytest.raises(RuntimeError, match="no such column"):
        require_agreement(found, result)


def test_steps_and_nothing_to_validate_cost_no_import():
    code = (
        "import importlib, pkgutil, sys, pathlib\n"
        "import mtv.steps\n"
        "for module in pkgutil.iter_modules(mtv.steps.__path__):\n"
        "    importlib.import_module(f'mtv.steps.{module.name}')\n"
        "from mtv.validation import conditions, evaluate, load_rules\n"
        "assert evaluate(load_rules(pathlib.Path(sys.argv[1]), 'vmware'), []) == []\n"
        "assert 'great_expectations' not in sys.modules and 'pandas' not in sys.modules\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(RULES.parents[1] / "plugins")}
    subprocess.run([sys.executable, "-c", code, str(RULES)], check=True, timeout=300, env=environment)


def test_evaluate_without_rules_gives_nobody_a_concern(tmp_path):
    (tmp_path / "vmware").mkdir()
    assert evaluate(load_rules(tmp_path, "vmware"), [{}, {}]) == [[], []]
