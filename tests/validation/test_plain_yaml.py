"""Rule files that libyaml reads: only those of which ruamel.yaml would say the same."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from mtv.validation.plain_yaml import read_plain

FILES = sorted((Path(__file__).parents[2] / "include" / "validation_rules").glob("*/*.yaml"))


def read_whole(text: str) -> object:
    return YAML(typ="safe", pure=True).load(text)


def test_our_files_are_read_as_the_whole_of_yaml_reads_them_and_nearly_all_are_plain():
    plain = [file for file in FILES if read_plain(file.read_text()) is not None]
    for file in plain:
        assert repr(read_plain(file.read_text())) == repr(read_whole(file.read_text())), file
    assert len(plain) > len(FILES) * 0.95


VALUES = ["true", "false", "null", "", "0", "-7", "1.5", "-0.25", "web-1", "-web", "yes", "no", "on", "off", "y"]
VALUES += ["10.0.0.1", "'1'", '"a\\n\\u00e9"', "é", "[a, {b: 1}, []]", "{}", "a:b"]
VALUES += [">-\n  a\n  b\n\n  c", "|\n  a\n   b"]


@pytest.mark.parametrize("value", VALUES)
def test_values_that_are_plain(value):
    text = f"k: {value}\n"
    assert repr(read_plain(text)) == repr(read_whole(text))


ODD = ["010", "0o10", "0x1f", "1_000", "1e3", ".5", "+1", "1:30", ".inf", "2001-01-01", "~", "True", "NULL", "<<", "="]
ODD += ["!!str 1", "! a", "&a b", "{a: 1, a: 2}", "{[a]: b}", "{<<: {a: b}}", "\tx", "|#", "9" * 30]
ODD += ["a\u2028b", "[" * 50 + "]" * 50, "a\n---\nb: c", "a\n...\n%YAML 1.1\n---\nb: c"]


@pytest.mark.parametrize("value", ODD)
def test_what_is_odd_is_left_to_the_whole_of_yaml(value):
    assert read_plain(f"k: {value}\n") is None


@pytest.mark.parametrize("text", ["", "- a\n", "a\n", "a: [\n", "%YAML 1.1\n---\na: b\n", "a: b\n\x07"])
def test_what_is_no_mapping_or_no_yaml_is_left_to_the_whole_of_yaml(text):
    assert read_plain(text) is None


SIGNS = [
    ": ",
    "- ",
    "\n",
    "\n  ",
    " ",
    '"',
    "'",
    "{",
    "}",
    "[",
    "]",
    ", ",
    " #",
    "|",
    ">-",
    "\\",
    "?",
    "-",
    "!",
    "&",
    "*",
]
WORDS = ["a", "b: c", "é", "true", "Null", "~", "01", "0o7", "1:3", "1e3", ".5", "-1", "1.0", "---", "...", "<<", "="]
pieces = st.sampled_from([*SIGNS, *WORDS])


@given(st.lists(pieces, max_size=14).map("".join))
def test_what_both_read_is_the_same(text):
    plain = read_plain(text)
    if plain is None:
        return
    try:
        whole = read_whole(text)
    except YAMLError:
        return  # of a few faults, such as a comment that touches a word, only one of the two complains
    assert repr(plain) == repr(whole)
