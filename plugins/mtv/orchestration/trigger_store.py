"""The store as triggers use it: one object per triggerer, and every call in a thread, never on the event loop."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from asgiref.sync import sync_to_async

from mtv.model.settings import Settings
from mtv.orchestration.connections import AirflowConnections

if TYPE_CHECKING:
    from mtv.store import Store

T = TypeVar("T")
_stores: dict[str, Store] = {}
_guard = threading.Lock()


async def read_store(call: Callable[[Store], T]) -> T:
    """Run `call` with the store in a thread and return its result."""
    # asgiref's thread, not asyncio's: only from there can Airflow's connections be asked for.
    return await sync_to_async(_with_store, thread_sensitive=False)(call)


def _with_store(call: Callable[[Store], T]) -> T:
    from mtv.store import Store, default_dsn

    with _guard:
        if not _stores:
            settings = Settings.from_environ()
            _stores[""] = Store.open(AirflowConnections().store_dsn() or default_dsn(settings.state_folder))
    return call(_stores[""])
