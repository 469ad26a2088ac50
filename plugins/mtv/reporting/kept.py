"""What a run used that earlier runs of its plan had made: its steps say that they kept it, evidence what it is."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from mtv.model.evidence import CONVERSION_KEPT, COPY_KEPT, EvidenceKind
from mtv.store import EvidenceRow, Run, StepRow, Store

_KEPT = (("transfer", COPY_KEPT, EvidenceKind.TRANSFER), ("convert", CONVERSION_KEPT, EvidenceKind.CONVERSION))


class KeptWork:
    """Looks up what a run kept. The other runs are read when a VM asks for the first time, and once."""

    def __init__(self, store: Store, run: Run) -> None:
        self._store = store
        self._run = run
        self._rows: dict[EvidenceKind, list[EvidenceRow]] = {}

    def of_vm(self, vm_id: str, steps: Sequence[StepRow]) -> dict[EvidenceKind, dict[str, Any]]:
        """Return the evidence of other runs that the VM's steps found kept and went on with.

        That is the newest of a success from before the step looked: a run that is read again later had not seen others.
        """
        found = {}
        for step, why, kind in _KEPT:
            looked = [row for row in steps if (row.step, row.state, row.error) == (step, "skipped", why)]
            if not looked:
                continue
            rows = [row for row in self._of_kind(kind) if row.vm_id == vm_id and row.document.get("ok")]
            before = [row for row in rows if row.recorded_at <= looked[-1].started_at]
            if before:
                found[kind] = max(before, key=lambda row: row.id).document
        return found

    def _of_kind(self, kind: EvidenceKind) -> list[EvidenceRow]:
        if kind not in self._rows:
            runs = self._store.runs(self._run.plan_name, limit=sys.maxsize)
            self._rows[kind] = [
                row for run in runs if run.id != self._run.id for row in self._store.evidence(run.id, kind=kind)
            ]
        return self._rows[kind]
