"""The store as triggers use it: one object per triggerer, and every call in a thread, never on the event loop.

Also what waits in the triggerer for something that the store says.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from airflow.triggers.base import BaseTrigger, TriggerEvent
from asgiref.sync import sync_to_async

from mtv.model.errors import TemporaryError
from mtv.model.settings import Settings
from mtv.orchestration.connections import AirflowConnections

if TYPE_CHECKING:
    from mtv.store import Store

T = TypeVar("T")
_LONGEST_WAIT_S = 7 * 24 * 3600
_SILENCE_LIMIT_S = 3600.0
"""How long the store may be silent before the task itself has a look. Who waits loses nothing by waiting longer."""
_stores: dict[str, Store] = {}
_guard = threading.Lock()


class StoreTrigger(BaseTrigger):
    """Fires when `is_over` says so of the store, or after a week, when the task looks again by itself.

    A store that is away only delays it; after an hour of silence the task looks, and says itself what is wrong.
    A subclass names its arguments in `fields`; its row in Airflow's database holds those and `poll_s`, nothing else.
    """

    fields: ClassVar[tuple[str, ...]]
    poll_s: float

    def is_over(self, store: Store) -> bool:
        """Return whether the task may go on."""
        raise NotImplementedError

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what the trigger row holds."""
        kind = type(self)
        return f"{kind.__module__}.{kind.__name__}", {**self._values(), "poll_s": self.poll_s}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look every `poll_s` seconds."""
        silent_since: float | None = None
        for _ in range(max(1, int(_LONGEST_WAIT_S / self.poll_s))):
            try:
                if await read_store(self.is_over):
                    break
                silent_since = None
            except TemporaryError as trouble:
                if silent_since is None:
                    self.log.warning("the wait goes on although %s", trouble.message)
                    silent_since = time.monotonic()
                elif time.monotonic() - silent_since > _SILENCE_LIMIT_S:
                    self.log.warning("%s; the task itself has a look", trouble.message)
                    break
            await asyncio.sleep(self.poll_s)
        yield TriggerEvent(self._values())  # type: ignore[no-untyped-call]

    def _values(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.fields}


async def read_store(call: Callable[[Store], T]) -> T:
    """Run `call` with the store in a thread and return its result. Raises `TemporaryError` while the store is away."""
    # asgiref's thread, not asyncio's: only from there can Airflow's connections be asked for.
    return await sync_to_async(_with_store, thread_sensitive=False)(call)


def _with_store(call: Callable[[Store], T]) -> T:
    from mtv.store import Store, default_dsn

    with _guard:
        if not _stores:
            settings = Settings.from_environ()
            _stores[""] = Store.open(AirflowConnections().store_dsn() or default_dsn(settings.state_folder))
    store = _stores[""]
    with store.answering():
        return call(store)
