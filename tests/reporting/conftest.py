"""A run with evidence as a real wave leaves it: migrated, rolled back, blocked."""

from __future__ import annotations

import pytest

from mtv.store import Store
from tests.reporting.sample import fill


@pytest.fixture
def run_id(store: Store) -> str:
    return fill(store)
