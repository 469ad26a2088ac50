from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mtv.kubevirt import labels, names
from mtv.kubevirt.labels import Role

DNS = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
LABEL_VALUE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
PLANS = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?", fullmatch=True)
VMS = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True)


def test_a_disk_claim_is_named_after_plan_vm_and_disk() -> None:
    assert names.disk_claim("first", "web-1", 0) == "first-web-1-disk-0"


@given(PLANS, VMS, st.integers(0, 200), st.integers(1, 10**9))
def test_every_name_is_a_dns_label(plan: str, vm: str, index: int, epoch: int) -> None:
    for name in (
        names.disk_claim(plan, vm, index),
        names.work_claim(plan, vm),
        names.pod(plan, vm, Role.TRANSFER.value, epoch),
        names.preflight(plan, "Gold.Class_1", "20261125-033000-ab12cd"),
        names.boot_proof(vm),
    ):
        assert DNS.fullmatch(name), name


def test_long_names_that_differ_only_at_their_ends_stay_different() -> None:
    made = {names.disk_claim("p" * 40, "v" * 63, index) for index in range(50)}
    assert len(made) == 50


@given(st.text(max_size=200))
@example("web-1\n")
def test_any_text_becomes_a_valid_label_value(text: str) -> None:
    assert text == "" or LABEL_VALUE.fullmatch(labels.value(text))


@given(st.text(min_size=1, max_size=100), st.text(min_size=1, max_size=100))
def test_different_texts_become_different_label_values(one: str, other: str) -> None:
    assert one == other or labels.value(one) != labels.value(other)


def test_a_selector_without_labels_is_refused() -> None:
    with pytest.raises(ValueError, match="others"):
        labels.selector({})
