"""An empty database of each kind, as the tests of the store have it."""

from __future__ import annotations

from tests.store.conftest import dsn, postgres

__all__ = ["dsn", "postgres"]
