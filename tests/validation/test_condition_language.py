"""The condition language: its grammar, its three-valued logic, and the vectorised engine against an obvious one."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtv.validation.language.columns import Rows
from mtv.validation.language.evaluation import truth
from mtv.validation.language.parser import parse
from mtv.validation.language.syntax import (
    Both,
    Call,
    Compare,
    ConditionError,
    Either,
    Literal,
    Match,
    Member,
    Not,
    Path,
    paths_of,
)

MISSING = object()


# The reference: one row at a time, one value at a time, nothing clever. True, False, or None for undefined.
def slow_truth(node: Any, row: Any) -> bool | None:
    if isinstance(node, Not):
        inner = slow_truth(node.operand, row)
        return None if inner is None else not inner
    if isinstance(node, Both):
        both = [slow_truth(node.left, row), slow_truth(node.right, row)]
        return False if False in both else None if None in both else True
    if isinstance(node, Either):
        both = [slow_truth(node.left, row), slow_truth(node.right, row)]
        return True if True in both else None if None in both else False
    if isinstance(node, Compare):
        return slow_compare(node.operator, slow_value(node.left, row), slow_value(node.right, row))
    if isinstance(node, Member):
        value = slow_value(node.value, row)
        if value is MISSING or isinstance(value, (list, dict)):
            return None
        return any(slow_compare("==", value, item.value) for item in node.items)
    if isinstance(node, Match):
        value = slow_value(node.value, row)
        return node.pattern.search(value) is not None if isinstance(value, str) else None
    value = slow_value(node, row)
    return value if isinstance(value, bool) else None


def slow_value(node: Any, row: Any) -> Any:
    if isinstance(node, Literal):
        return node.value
    if isinstance(node, Path):
        for part in node.parts:
            if not isinstance(row, dict) or part not in row:
                return MISSING
            row = row[part]
        return row
    if isinstance(node, Call):
        value = slow_value(node.argument, row)
        if node.name == "has":
            return value is not MISSING
        if node.name == "filled":
            return isinstance(value, str) and value != ""
        if node.name == "default":
            return node.fallback.value if value is MISSING else value
        if node.name == "lower":
            return value.lower() if isinstance(value, str) else MISSING
        if node.condition is not None:
            if not isinstance(value, list):
                return MISSING
            return sum(slow_truth(node.condition, item) is True for item in value)
        return len(value) if isinstance(value, (str, list, dict)) else MISSING
    result = slow_truth(node, row)
    return MISSING if result is None else result


def kind(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, (int, float)):
        return "number"
    return {str: "text", list: "sized", dict: "sized", type(None): "null"}[type(value)]


def slow_compare(operator: str, left: Any, right: Any) -> bool | None:
    if left is MISSING or right is MISSING:
        return None
    same = kind(left) == kind(right)
    if operator == "contains":
        return right in left if same and kind(left) == "text" else None
    if operator in ("==", "!="):
        if same and kind(left) == "sized":
            return None
        equal = same and left == right
        return equal if operator == "==" else not equal
    if not same or kind(left) not in ("number", "text"):
        return None
    return {"<": left < right, "<=": left <= right, ">": left > right, ">=": left >= right}[operator]


names = st.sampled_from(["a", "b", "c", "o.x"])
words = st.sampled_from(["", "up", "UP", "powering up", "x"])
scalars = st.one_of(words, st.integers(-2, 2), st.booleans(), st.none(), st.just(0.5))
documents = st.dictionaries(
    st.sampled_from(["a", "b", "c", "o"]),
    st.one_of(
        scalars,
        st.lists(st.one_of(scalars, st.dictionaries(st.sampled_from(["a", "b"]), scalars)), max_size=3),
        st.dictionaries(st.just("x"), scalars),
    ),
)


def written(value: Any) -> str:
    if isinstance(value, str):
        return f'"{value}"'
    return {True: "true", False: "false", None: "null"}[value] if kind(value) in ("bool", "null") else str(value)


values = st.one_of(
    names,
    scalars.map(written),
    names.map(lambda name: f"count({name})"),
    st.tuples(names, names, scalars).map(lambda part: f"count({part[0]}, {part[1]} == {written(part[2])})"),
    names.map(lambda name: f"lower({name})"),
    names.map(lambda name: f"has({name})"),
    names.map(lambda name: f"filled({name})"),
    st.tuples(names, scalars).map(lambda pair: f"default({pair[0]}, {written(pair[1])})"),
)
atoms = st.one_of(
    names,
    st.tuples(values, st.sampled_from(["==", "!=", "<", "<=", ">", ">=", "contains"]), values).map(" ".join),
    st.tuples(values, st.sampled_from(["in", "not in"]), st.lists(scalars, max_size=3)).map(
        lambda parts: f"{parts[0]} {parts[1]} [{', '.join(map(written, parts[2]))}]"
    ),
    st.tuples(values, st.sampled_from(["^up", "(?i)up$", "x|p", ""])).map(
        lambda pair: f'{pair[0]} matches "{pair[1]}"'
    ),
)
conditions = st.recursive(
    atoms,
    lambda inner: st.one_of(
        inner.map(lambda text: f"not ({text})"),
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(
            lambda parts: f"({parts[0]}) {parts[1]} ({parts[2]})"
        ),
        st.tuples(inner, inner).map(lambda parts: f"({parts[0]}) == ({parts[1]})"),
    ),
    max_leaves=6,
)


@settings(max_examples=400)
@given(conditions, st.lists(documents, max_size=5))
def test_all_rows_at_once_is_the_same_as_one_by_one(text, rows):
    condition = parse(text)
    fast = truth(condition, Rows(rows))
    found = [
        True if true else False if known else None
        for true, known in zip(fast.true.tolist(), fast.known.tolist(), strict=True)
    ]
    assert found == [slow_truth(condition, row) for row in rows]


@pytest.mark.parametrize(
    ("text", "document", "outcome"),
    [
        ("a == 1", {"a": True}, False),
        ("a == 1", {"a": 1.0}, True),
        ("a != 1", {}, None),
        ("not a == 1", {}, None),
        ('not a matches "x"', {}, None),
        ('a matches "x"', {"a": 3}, None),
        ("a", {"a": 1}, None),
        ("a or b", {"b": True}, True),
        ("a and b", {"b": False}, False),
        ("count(a) != 0", {"a": []}, False),
        ("count(a) != 0", {}, None),
        ('default(a, "") == ""', {}, True),
        ("a == null", {"a": None}, True),
        ("filled(a)", {"a": "x"}, True),
        ("filled(a)", {"a": ""}, False),
        ("filled(a)", {"a": [1]}, False),
        ("not filled(a.b)", {}, True),
        ("default(count(a) > 0, false)", {}, False),
        ("a < 2", {"a": "1"}, None),
        ("a.b.c", {"a": {"b": {"c": True}}}, True),
        ("a.b.c", {"a": [1]}, None),
        ('a["x:y"] == 1', {"a": {"x:y": 1}}, True),
        ('a in ["up"]', {"a": "powering_up"}, False),
        ('a contains "up"', {"a": "powering_up"}, True),
        ("a not in [1, 2]", {"a": 3}, True),
        ("not a and b", {"a": False, "b": True}, True),
        ("count(a, b == 1) == 2", {"a": [{"b": 1}, {"b": 2}, {}, 3, {"b": 1}]}, True),
        ("count(a, b == 1) == 0", {"a": []}, True),
        ("count(a, b == 1) == 0", {"a": {"x": []}}, None),
        ("count(a, b == 1) == 0", {"a": "text"}, None),
        ("count(a, b == 1) == 0", {}, None),
        (
            "count(o.a, count(c, d == vm.e) > 0) == 1",
            {"e": 1, "o": {"a": [{"c": [{"d": 1}]}, {"c": [{"d": 2}]}]}},
            True,
        ),
        ('["x:y"]["z z"].a == 1', {"x:y": {"z z": {"a": 1}}}, True),
        ("a or b and c", {"a": True, "b": False, "c": False}, True),
    ],
)
def test_single_cases(text, document, outcome):
    result = truth(parse(text), Rows([document]))
    assert (bool(result.true[0]) if result.known[0] else None) is outcome


@pytest.mark.parametrize(
    ("text", "position", "said"),
    [
        ("", 0, "missing"),
        ("a ==", 4, "missing"),
        ("a = 1", 2, "unexpected"),
        ("(a", 2, "')'"),
        ("a b", 2, "too much"),
        ('a == "x', 5, "does not end"),
        ("sum(a) > 1", 0, "no function"),
        ("count(1)", 0, "attribute"),
        ('filled("x")', 0, "attribute"),
        ('a matches "x{99999999999}"', 10, "regular expression"),
        ("count(a, )", 9, "missing"),
        ("count(a, b", 10, "')'"),
        ("has(a, b)", 5, "')'"),
        ("[1] == 1", 1, "in brackets"),
        ('a matches "("', 10, "regular expression"),
        ("a matches b", 10, "only a number"),
        ("a in [b]", 6, "only a number"),
        ("__import__('os').system('x')", 0, "no function"),
        ("not " * 60 + "a", None, "too deep"),
        ("(" * 60 + "a", None, "too deep"),
        ("a or " * 300 + "a", None, "more than"),
        ("a" * 5000, None, "longer"),
    ],
)
def test_faults_name_their_place(text, position, said):
    with pytest.raises(ConditionError, match=re.escape(said)) as caught:
        parse(text)
    if position is not None:
        assert caught.value.position == position


@given(st.text(alphabet="ab()[]\"'.,<>=! 01notadrihsw", max_size=40))
def test_any_text_is_a_condition_or_a_condition_error(text):
    position = 0
    try:
        parse(text)
    except ConditionError as error:
        position = error.position
    assert 0 <= position <= len(text)


def test_parts_see_their_vm():
    vms = Rows([{"name": "v", "disks": [{"size": 1}, {"size": 2}]}, {"name": "w", "disks": [{"size": 1}]}, {}])
    rows = vms.table("disks")
    result = truth(parse('size == 1 and vm.name == "v"'), rows)
    assert result.true.tolist() == [True, False, False]
    assert rows.owner.tolist() == [0, 0, 1]


def test_parts_can_count_the_other_parts_of_their_vm():
    rows = Rows([{"nics": [{"up": True}, {"up": False}], "disks": [{}, {}]}, {"disks": [{}]}]).table("disks")
    result = truth(parse("count(vm.nics, up) == 1"), rows)
    assert result.true.tolist() == [True, True, False]
    assert result.known.tolist() == [True, True, False]


def test_a_star_takes_the_lists_of_all_attributes_of_an_object():
    rows = Rows([{"n": {"a": [1, 2], "b": "x", "c": [3]}}, {"n": {}}, {"n": [4]}, {}]).table("n.*")
    assert rows.items == [1, 2, 3]
    assert rows.owner.tolist() == [0, 0, 0]
    assert rows.listed.tolist() == [True, True, False, False]


def test_paths_are_known_to_the_loader():
    assert paths_of(parse('not (a.b == 1 or count(c) > 0) and lower(d) in ["x"]')) == {("a", "b"), ("c",), ("d",)}
