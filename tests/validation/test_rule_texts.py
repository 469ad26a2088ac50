"""Texts of concerns with attributes in them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from mtv.validation.language.columns import attribute
from mtv.validation.templates import Template


@pytest.mark.parametrize(
    ("text", "row", "written"),
    [
        ("Disk {file}", {"file": "x"}, "Disk x"),
        ("Disk {file}", {"file": ""}, "Disk "),
        ("Disk {file}", {}, None),
        ("Disk {file}", {"file": None}, None),
        ("Disk {file}", {"file": ["x"]}, None),
        ("{a.b} {{c}}", {"a": {"b": 1}}, "1 {c}"),
        ("{a|b}", {"b": True}, "true"),
        ("{a|b}", {"a": "", "b": "y"}, "y"),
        ("{a|b}", {}, None),
        ("{a|b|'no name'}", {"a": ""}, "no name"),
        ("{a|'x'}", {"a": 0}, "0"),
        ("{a:MiB}", {"a": 1572864}, "2"),
        ("{a:MiB}", {"a": -1}, "0"),
        ("{a:MiB}", {"a": 1048576.0}, "1"),
        ("{a:MiB}", {"a": 10**400}, str((10**400 + (1 << 19)) >> 20)),
        ("{a:MiB}", {"a": float("inf")}, None),
        ("{a:MiB}", {"a": True}, None),
        ("{a:MiB}", {"a": "1"}, None),
        ("{a:last}", {"a": "[ds] dir/x.vmdk"}, "x.vmdk"),
        ("{a:last}", {"a": "x.vmdk"}, "x.vmdk"),
        ("{a:last}", {"a": 3}, None),
        ("{a|b:last}", {"b": "c/d"}, "d"),
    ],
)
def test_texts_are_filled(text: str, row: Mapping[str, Any], written: str | None) -> None:
    assert Template(text).render(lambda parts: attribute(row, parts)) == written


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a } b", "lone"),
        ("a { b", "lone"),
        ("{}", "no attribute"),
        ("{1}", "no attribute"),
        ("{a b}", "no attribute"),
        ("{a|}", "no attribute"),
        ("{'x'}", "no attribute"),
        ("{'x'|a}", "no attribute"),
        ("{a!r}", "no attribute"),
        ("{a:GiB}", "there are MiB, last"),
    ],
)
def test_what_is_no_attribute_is_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Template(text)
