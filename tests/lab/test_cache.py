from __future__ import annotations

import threading
from pathlib import Path

import pytest

from lab import cache
from lab.cache import cached, source_hash


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MTV_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source" / "main.go"
    path.parent.mkdir()
    path.write_text("one")
    return path


def test_a_thing_is_built_once_per_version_of_its_sources(source: Path) -> None:
    built = []

    def build(target: Path) -> None:
        built.append(source.read_text())
        (target / "result").write_text(source.read_text())

    first = cached("thing", sources=[source], build=build)
    assert cached("thing", sources=[source], build=build) == first
    source.write_text("two")
    second = cached("thing", sources=[source], build=build)
    assert (built, (first / "result").read_text(), (second / "result").read_text()) == (["one", "two"], "one", "two")


def test_a_failed_build_leaves_nothing_under_its_name(source: Path, folder: Path) -> None:
    def fail(target: Path) -> None:
        (target / "half").write_text("")
        raise ValueError("disk full")

    with pytest.raises(ValueError, match="disk full"):
        cached("thing", sources=[source], build=fail)
    assert list(folder.glob("thing-*")) == []
    done = cached("thing", sources=[source], build=lambda target: (target / "whole").touch())
    assert [path.name for path in done.iterdir()] == ["whole"]


def test_who_asks_at_the_same_time_gets_the_same_one(source: Path) -> None:
    built, found = [], []
    both = threading.Barrier(2)

    def build(target: Path) -> None:
        built.append(target)

    def ask() -> None:
        both.wait(60)
        found.append(cached("thing", sources=[source], build=build))

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(built) == 1
    assert found[0] == found[1]


def test_the_hash_does_not_depend_on_where_the_sources_lie(tmp_path: Path) -> None:
    hashes = set()
    for where in ("here", "there"):
        module = tmp_path / where / "module"
        module.mkdir(parents=True)
        (module / "a").write_text("x")
        hashes.add(source_hash([module]))
    assert len(hashes) == 1


@pytest.mark.parametrize("change", ["content", "name", "executable", "extra"])
def test_every_change_that_counts_changes_the_hash(source: Path, change: str) -> None:
    before, module, extra = source_hash([source.parent]), source.parent, ""
    if change == "content":
        source.write_text("two")
    elif change == "name":
        source.rename(source.with_name("other.go"))
    elif change == "executable":
        source.chmod(0o755)
    else:
        extra = "v2"
    assert source_hash([module], extra) != before


def test_versions_that_nobody_used_for_long_are_dropped(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = cached("thing", sources=[source], build=lambda _: None)
    other = cached("thing-else", sources=[source], build=lambda _: None)
    monkeypatch.setattr(cache, "_UNUSED_AFTER_S", -1)
    source.write_text("two")
    new = cached("thing", sources=[source], build=lambda _: None)
    assert (old.exists(), other.exists(), new.exists()) == (False, True, True)
