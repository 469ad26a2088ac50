"""Every rule of ours over random documents: all at once as the suite does it, and row by row as one would by hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest

from mtv.validation import load_rules
from mtv.validation.firing import firings
from mtv.validation.language.columns import absent
from mtv.validation.rules import Rule
from tests.providers.rule_attributes import condition_paths, values_at
from tests.validation.test_condition_language import MISSING, slow_truth, slow_value
from tests.validation.test_condition_language import Path as AttributePath

RULES = Path(__file__).parents[2] / "include" / "validation_rules"
PROVIDERS = ("vmware", "ovirt", "openstack", "ova", "hyperv")
LOADED = {provider: load_rules(RULES, provider) for provider in PROVIDERS}
ODD: list[Any] = [None, True, False, 0, 1, -1, 2.5, 10**30, "", "x", "0", "true", [], {}, [1], {"id": ""}]
"""Values that an attribute should not have, and some that it should."""
GONE = object()
DOCUMENTS = 400


def parts_of(rule: Rule) -> set[tuple[str, ...]]:
    """All attributes that a rule reads, in its condition, its exception and its texts."""
    table = () if rule.table == "vms" else tuple(rule.table.split("."))
    found = condition_paths(rule)
    if rule.unless is not None:
        found |= condition_paths(msgspec.structs.replace(rule, condition=rule.unless))
    texts = [rule.label, rule.assessment]
    for text in texts:
        text.render(lambda parts: found.add((*table, *parts)) if parts[0] not in ("#", "vm") else None)
    return found


def tree_of(provider: str) -> dict[str, Any]:
    """The attributes of a provider's rules as a tree; a leaf holds values from examples, `[]` marks a list."""
    tree: dict[str, Any] = {}
    for rule in LOADED[provider].rules:
        examples = [document for documents in rule.examples.values() for document in documents]
        lists = {tuple(rule.table.split("."))} if rule.table != "vms" else set()
        for path in parts_of(rule):
            node = tree
            for at, part in enumerate(path):
                node = node.setdefault(part, {})
                if path[: at + 1] in lists:
                    node = node.setdefault("[]", {})
            told = [value for example in examples for value in values_at(example, path)]
            node.setdefault("=", []).extend(value for value in told if value not in node.get("=", []))
    return tree


def value(draw: Random, tree: dict[str, Any]) -> Any:
    """Something of the shape that the rules expect, or something odd, or nothing (GONE)."""
    choice = draw.random()
    if choice < 0.08:
        return GONE
    if choice < 0.12:
        return draw.choice(ODD)
    if "[]" in tree:
        items = [value(draw, tree["[]"]) for _ in range(draw.randrange(4))]
        return [item for item in items if item is not GONE]
    below = {name: inner for name, inner in tree.items() if name != "="}
    if not below:
        return draw.choice([*tree.get("=", []), draw.choice(ODD)])
    made = {}
    for name, inner in below.items():
        for key in ("a", "b") if name == "*" else (name,):
            if (found := value(draw, inner)) is not GONE:
                made[key] = found
    return made


def rows(rule: Rule, document: Any) -> Iterator[tuple[Any, int]]:
    """The rows of a rule's table, each as an object that knows its VM, with its place."""
    if rule.table == "vms":
        yield document, 1
        return
    found = [document]
    for part in rule.table.split("."):
        objects = [each for each in found if isinstance(each, dict)]
        found = [each[name] for each in objects for name in (each if part == "*" else (part,)) if name in each]
    items = [item for each in found if isinstance(each, list) for item in each]
    for place, item in enumerate(items, start=1):
        yield {**(item if isinstance(item, dict) else {}), "vm": document}, place


def obvious(rule: Rule, document: Any) -> set[tuple[str, str]]:
    """Label and assessment of each concern that a rule has of a document."""
    said = set()
    for row, place in rows(rule, document):
        if slow_truth(rule.condition, row) is not True:
            continue
        if rule.unless is not None and slow_truth(rule.unless, row) is True:
            continue

        def attribute(parts: Any, row: Any = row, place: int = place) -> Any:
            if parts[0] == "#":
                return place
            found = slow_value(AttributePath(tuple(parts)), row)
            return absent() if found is MISSING else found

        texts = (rule.label.render(attribute), rule.assessment.render(attribute))
        if None not in texts:
            said.add(texts)
    return said  # type: ignore[return-value]


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_suite_says_what_one_would_say_row_by_row(provider: str) -> None:
    draw = Random(f"{provider} 1")
    tree = tree_of(provider)
    vms = [made for _ in range(DOCUMENTS) if isinstance(made := value(draw, tree), dict)]
    spoke: set[str] = set()
    for firing in firings(LOADED[provider], vms):
        for position, vm in enumerate(vms):
            pairs = [(one.label, one.assessment) for one in firing.concerns.get(position, [])]
            assert len(set(pairs)) == len(pairs), "a set of whole objects"
            assert set(pairs) == obvious(firing.rule, vm), (firing.rule.id, vm)
            if pairs:
                spoke.add(firing.rule.id)
    counting = {rule.id for rule in LOADED[provider].rules if "count.exceeds" in rule.id}
    assert {rule.id for rule in LOADED[provider].rules} - spoke <= counting, "the documents make every rule speak"
