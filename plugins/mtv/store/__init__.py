"""The factory's own database: plans, runs, VMs, steps, evidence, inventories.

Store and target cluster, never Airflow's state, say what is done. One row per VM is this store's only lock.
"""

from __future__ import annotations

from mtv.store.dsn import STORE_CONNECTION, default_dsn, dsn_of
from mtv.store.errors import (
    AlreadyMigrated,
    HeldByAnother,
    NfcStreamsTaken,
    NotFound,
    RunRefused,
    StaleHolder,
    StoreAway,
    StoreInUse,
    StoreNewer,
    StoreOlder,
)
from mtv.store.limits import SqliteLimit, refuse_small_database
from mtv.store.rows import (
    Approval,
    EvidenceRow,
    InventoryChange,
    InventoryMoment,
    InventoryObject,
    Judgement,
    ProgressRow,
    Run,
    SourceChange,
    Standing,
    StepRow,
    VmRow,
)
from mtv.store.store import Store

__all__ = [
    "STORE_CONNECTION",
    "AlreadyMigrated",
    "Approval",
    "EvidenceRow",
    "HeldByAnother",
    "InventoryChange",
    "InventoryMoment",
    "InventoryObject",
    "Judgement",
    "NfcStreamsTaken",
    "NotFound",
    "ProgressRow",
    "Run",
    "RunRefused",
    "SourceChange",
    "SqliteLimit",
    "StaleHolder",
    "Standing",
    "StepRow",
    "Store",
    "StoreAway",
    "StoreInUse",
    "StoreNewer",
    "StoreOlder",
    "VmRow",
    "default_dsn",
    "dsn_of",
    "refuse_small_database",
]
