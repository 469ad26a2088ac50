from __future__ import annotations

import pytest

from mtv.kubevirt import quantities


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10Gi", 10 * 2**30),
        ("1073741824", 2**30),
        ("1.5Gi", 3 * 2**30 // 2),
        ("2G", 2 * 10**9),
        ("0.1Ki", 103),
        ("1k", 1000),
        ("0", 0),
    ],
)
def test_a_quantity_is_read_whole(text: str, expected: int) -> None:
    assert quantities.whole(text) == expected


@pytest.mark.parametrize("text", ["10Qi", "ten", ""])
def test_a_text_that_is_no_quantity_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        quantities.whole(text)
