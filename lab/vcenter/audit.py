"""Reads the vCenter's audit: every call that changed anything, in order."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Change:
    """One changing call. `passed` is false if the user lacked the privilege; `detail` holds names of snapshots etc."""

    time: str
    method: str
    object: str
    name: str
    user: str
    passed: bool
    detail: Any


def read_audit(path: Path) -> list[Change]:
    """All lines so far; none if nothing has changed yet."""
    if not path.exists():
        return []
    changes = []
    for line in path.read_text().splitlines():
        row = json.loads(line)
        changes.append(
            Change(
                time=row["Time"],
                method=row["Method"],
                object=row["Object"],
                name=row["Name"],
                user=row["User"],
                passed=row["Outcome"] == "passed",
                detail=row.get("Detail"),
            )
        )
    return changes
