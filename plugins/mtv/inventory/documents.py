"""What inventories read from workload documents of any source: missing and misshapen parts count as not there."""

from __future__ import annotations

from typing import Any

from mtv.model.source import SourceVm


def rows_of(vm: SourceVm, table: str) -> list[dict[str, Any]]:
    """Return the rows of a list in the VM's document."""
    rows = vm.document.get(table)
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def snapshots_of(vm: SourceVm) -> dict[str, str]:
    """Return the VM's snapshots as id → kind. vSphere's documents name the current one only."""
    found = {
        str(row["id"]): str(row.get("type") or "snapshot")
        for row in rows_of(vm, "snapshots")
        # oVirt holds one row for the state that the VM is in, which is no snapshot.
        if row.get("id") and row.get("type") != "active"
    }
    current = vm.document.get("snapshot")
    if isinstance(current, dict) and current.get("id"):
        found[str(current["id"])] = "current"
    return found
