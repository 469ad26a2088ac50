"""A run with evidence as a real wave leaves it: migrated, rolled back, blocked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mtv.store import Store
from tests.reporting.sample import fill


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(f"sqlite:///{tmp_path / 'store.sqlite'}") as store:
        store.upgrade()
        yield store


@pytest.fixture
def run_id(store: Store) -> str:
    return fill(store)
