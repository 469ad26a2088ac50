"""Names made from names."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtv.plan import dns_label


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("web-1", "web-1"),
        ("WEB 1", "web-1"),
        ("db.prod.example", "db-prod-example"),
        ("a_b+c*d/e\\f", "a-b-c-d-e-f"),
        ("--x..y--", "x-y"),
        ("Bücher", "bcher"),
    ],
)
def test_a_label_keeps_what_it_can_of_a_name(name: str, label: str) -> None:
    assert dns_label(name) == label


def test_names_without_a_usable_character_stay_different() -> None:
    assert dns_label("数据库") != dns_label("网络")
    assert dns_label("数据库").startswith("vm-")


def test_long_names_that_differ_at_their_end_stay_different() -> None:
    assert dns_label("x" * 80 + "1") != dns_label("x" * 80 + "2")


@given(st.text())
def test_any_name_becomes_a_label_that_stays_itself(name: str) -> None:
    label = dns_label(name)
    assert re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", label)
    assert dns_label(label) == label == dns_label(name)
