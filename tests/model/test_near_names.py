"""Which known name was meant by a misspelt one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtv.model.near_names import nearest


@pytest.mark.parametrize(
    ("word", "known", "meant"),
    [
        pytest.param("targetPowerState", ["target_power_state", "target_name"], "target_power_state", id="camel-case"),
        pytest.param("Target Power-State", ["target_power_state"], "target_power_state", id="spaces-and-hyphens"),
        pytest.param("WEB-1", ["web-1", "web-2"], "web-1", id="case"),
        pytest.param("web1", ["web-10", "web-1"], "web-1", id="all-but-punctuation-goes-before-alike"),
        pytest.param("Cafe\u0301 1", ["Caf\u00e9 1"], "Caf\u00e9 1", id="another-way-to-write-an-accent"),
        pytest.param("thumprint", ["thumbprint", "ca_file"], "thumbprint", id="letter-missing"),
        pytest.param("rvh", ["rhv", "vcenter"], "rhv", id="letters-exchanged"),
        pytest.param("./hart", ["./hard"], "./hard", id="path"),
        pytest.param("--", ["web-1", "---"], "---", id="punctuation-only"),
        pytest.param("owner", ["path", "volume"], None, id="nothing-alike"),
        pytest.param("x", [], None, id="nothing-known"),
    ],
)
def test_the_nearest_name_is_found_whatever_its_case_and_punctuation(
    word: str, known: list[str], meant: str | None
) -> None:
    assert nearest(word, known) == meant
    assert nearest(word, reversed(known)) == meant


@given(st.lists(st.text(max_size=6), min_size=1, max_size=6), st.data())
def test_a_name_that_is_known_is_near_itself_or_its_like(known: list[str], data: st.DataObject) -> None:
    word = data.draw(st.sampled_from(known))
    found = nearest(word, known)
    assert found is not None
    assert nearest(found, [word]) == word
