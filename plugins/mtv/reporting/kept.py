"""What a run used that earlier runs of its plan had made: its steps say that they kept it, evidence what it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mtv.model.evidence import CONVERSION_KEPT, COPY_KEPT, EvidenceKind
from mtv.store import Run, StepRow, Store

_KEPT = (("transfer", COPY_KEPT, EvidenceKind.TRANSFER), ("convert", CONVERSION_KEPT, EvidenceKind.CONVERSION))


def kept_work(store: Store, run: Run, vm_id: str, steps: Sequence[StepRow]) -> dict[EvidenceKind, dict[str, Any]]:
    """Return the evidence of other runs that the VM's steps found kept and went on with.

    That is the newest of a success from before the step looked: a run that is read again later had not seen others.
    """
    found = {}
    for step, why, kind in _KEPT:
        looked = [row for row in steps if (row.step, row.state, row.error) == (step, "skipped", why)]
        if not looked:
            continue
        others = [row for row in store.evidence_of_all_runs(run.plan_name, vm_id, kind) if row.run_id != run.id]
        before = [row for row in others if row.document.get("ok") and row.recorded_at <= looked[-1].started_at]
        if before:
            found[kind] = before[-1].document
    return found
