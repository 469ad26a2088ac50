"""How far SQLite carries. Above that the factory refuses to start work instead of becoming slow or losing locks."""

from __future__ import annotations

from mtv.model.errors import PermanentError
from mtv.store.store import Store

SQLITE_PARALLELISM = 8
"""Tasks that may run at once beside an SQLite store."""
SQLITE_ACTIVE_VMS = 50
"""VMs that active runs may hold beside an SQLite store."""
_CURE = "point the connection mtv_store at PostgreSQL"


class SqliteLimit(PermanentError):
    """The installation or the wave is too large for a store in SQLite."""


def refuse_small_database(
    store: Store, *, executor: str = "LocalExecutor", parallelism: int = 1, added_vms: int = 0
) -> None:
    """Raise `SqliteLimit` when this work needs PostgreSQL; `added_vms` are about to join those in active runs."""
    if store.dialect != "sqlite":
        return
    if executor.rsplit(".", 1)[-1] not in {"LocalExecutor", "SequentialExecutor"}:
        raise SqliteLimit(f"a store in SQLite serves one host, and {executor} uses several", cure=_CURE)
    if parallelism > SQLITE_PARALLELISM:
        raise SqliteLimit(
            f"a store in SQLite carries {SQLITE_PARALLELISM} tasks at once, not {parallelism}",
            cure=f"{_CURE}, or lower Airflow's parallelism",
        )
    vms = store.active_vm_count() + added_vms
    if vms > SQLITE_ACTIVE_VMS:
        raise SqliteLimit(
            f"a store in SQLite carries {SQLITE_ACTIVE_VMS} VMs in active runs, not {vms}",
            cure=f"{_CURE}, or make the wave smaller",
        )
