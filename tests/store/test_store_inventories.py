"""Inventories as versions: whatever happens at a source, each moment can be read as it was."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mtv.model.concern import Category, Concern
from mtv.model.condition import Condition, ConditionCategory
from mtv.store import InventoryObject, Judgement, Store
from mtv.store.tables import InventoryVersionRecord

BEGIN = datetime(2026, 11, 1, tzinfo=UTC)


def an_object(key: str, document: dict[str, Any], *, kind: str = "vm") -> InventoryObject:
    return InventoryObject(kind=kind, key=key, name=f"name of {key}", document=document)


def plain(objects: list[InventoryObject]) -> list[tuple[str, str, str, dict[str, Any]]]:
    return sorted((one.kind, one.key, one.name, one.document) for one in objects)


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 70), 1 << 70) | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=4,
)
# Few keys and few documents, so that objects come, stay, change, go, and come back as they were.
_OBJECT = st.tuples(st.sampled_from(["vm", "host"]), st.sampled_from("abc"))
_HISTORY = st.lists(
    st.dictionaries(_OBJECT, st.sampled_from([{"n": 1}, {"n": 2}]) | st.fixed_dictionaries({"v": _VALUES}), max_size=5),
    min_size=1,
    max_size=7,
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(history=_HISTORY, keep=st.none() | st.integers(0, 4))
def test_every_kept_moment_of_any_history_reads_as_a_full_copy_kept_beside(
    store: Store, history: list[dict[tuple[str, str], dict[str, Any]]], keep: int | None
) -> None:
    source = f"source-{id(history)}-{datetime.now(UTC).timestamp()}"
    copies = []
    for hour, state in enumerate(history):
        objects = [an_object(key, document, kind=kind) for (kind, key), document in state.items()]
        moment = store.put_inventory(
            source,
            objects,
            now=BEGIN + timedelta(hours=hour),
            keep=None if keep is None else timedelta(hours=keep, minutes=30),
        )
        copies.append((moment, plain(objects)))
    kept = {moment.id for moment in store.inventory_moments(source)}
    last = len(history) - 1
    # An instant is kept with the moment that was the newest then.
    wanted = [moment.id for hour, (moment, _) in enumerate(copies) if keep is None or hour >= last - keep - 1]
    assert kept == set(wanted)
    for moment, copy in copies:
        if moment.id in kept:
            assert plain(store.inventory(moment)) == copy
            assert store.inventory_moment(source, moment.taken_at + timedelta(minutes=59)) == moment
            now, latest = copies[-1][1], copies[-1][0]
            told = store.inventory_changes(moment, latest)
            before = {one[:2]: one for one in copy}
            after = {one[:2]: one for one in now}
            assert [(one.kind, one.key) for one in told] == sorted(
                key for key in {*before, *after} if repr(before.get(key)) != repr(after.get(key))
            )
            for one in told:
                assert (one.before and plain([one.before])[0]) == before.get((one.kind, one.key))
                assert (one.now and plain([one.now])[0]) == after.get((one.kind, one.key))


def test_what_has_not_changed_is_not_written_again(store: Store) -> None:
    state = [an_object(str(number), {"n": number}) for number in range(20)]
    store.put_inventory("vc", state)
    store.put_inventory("vc", state)
    store.put_inventory("vc", [an_object("3", {"n": -3}), *state[:3], *state[4:]])
    with store._reading() as session:
        assert session.query(InventoryVersionRecord).count() == 21
    assert [moment.objects for moment in store.inventory_moments("vc")] == [20, 20, 20]


def test_sources_do_not_mix_and_objects_are_found_by_name_and_kind(store: Store) -> None:
    store.put_inventory("one", [an_object("a", {"n": 1}), an_object("a", {"n": 1}, kind="host")])
    moment = store.put_inventory("two", [an_object("b", {"n": 2}), an_object("h", {}, kind="host")])
    assert [one.key for one in store.inventory(moment)] == ["h", "b"]
    assert [one.key for one in store.inventory(moment, kind="vm", name="name of b")] == ["b"]
    assert store.inventory(moment, name="name of a") == []
    assert store.inventory_moment("three") is None
    assert store.inventory_moment("two", BEGIN) is None


def test_two_objects_of_one_key_are_refused(store: Store) -> None:
    with pytest.raises(ValueError, match="two objects"):
        store.put_inventory("vc", [an_object("a", {}), an_object("a", {"n": 1})])
    assert store.inventory_moments("vc") == []


def test_snapshots_at_the_same_time_leave_one_version_current(store: Store) -> None:
    with ThreadPoolExecutor(4) as pool:
        moments = list(pool.map(lambda n: store.put_inventory("vc", [an_object("a", {"n": n})]), range(8)))
    assert len({moment.id for moment in moments}) == 8
    for number, moment in enumerate(moments):
        assert [one.document for one in store.inventory(moment)] == [{"n": number}]


def test_judgements_and_standings_are_kept_and_replaced(store: Store) -> None:
    concern = Concern(id="x", category=Category.WARNING, label="l", assessment="a")
    first = {key: Judgement(digest="1", rules_version="r", concerns=(concern,)) for key in "ab"}
    store.put_judgements("vc", first)
    store.put_judgements("vc", {"a": Judgement(digest="2", rules_version="r", concerns=())}, gone=["b", "c"])
    assert store.judgements("vc") == {"a": Judgement(digest="2", rules_version="r", concerns=())}
    assert store.judgements("other") == {}

    def condition(category: ConditionCategory) -> Condition:
        return Condition(type="T", id="i", category=category, reason="r", message="m", cure="c", vms=("a",))

    assert store.standing("dc1") is None
    assert store.put_standing("dc1", "h1", [condition(ConditionCategory.WARNING)]).is_ready
    assert not store.put_standing("dc1", "h2", [condition(ConditionCategory.ERROR)]).is_ready
    standing = store.standing("dc1")
    assert standing is not None
    assert (standing.plan_hash, standing.is_ready) == ("h2", False)
    assert standing.conditions == (condition(ConditionCategory.ERROR),)
