"""What the store answers with: frozen values, free of SQLAlchemy."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from mtv.model.concern import Concern
from mtv.model.condition import Condition
from mtv.model.evidence import EvidenceKind, VmPhase
from mtv.model.transfer import Progress


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One run of one wave. `state` is running, success or failed; `id` is a valid label value and DNS label."""

    id: str
    plan_hash: str
    plan_name: str
    wave: str
    dag_id: str
    dag_run_id: str
    state: str
    started_at: datetime
    finished_at: datetime | None = None
    frozen_vms: tuple[str, ...] | None = None


class VmRow(msgspec.Struct, frozen=True, kw_only=True):
    """Where a VM of a plan stands. `holder` is the id of the run that holds it, or empty; `last_run` held it last.

    `epoch` grows whenever the VM is claimed or fenced: a mover with an older epoch must not write any more.
    """

    plan_name: str
    vm_id: str
    phase: VmPhase = VmPhase.PENDING
    epoch: int = 0
    holder: str = ""
    last_run: str = ""
    target_name: str = ""
    updated_at: datetime | None = None


class StepRow(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt at one step. `state` is running, success, failed or skipped; `vm_id` is empty for run steps."""

    id: int
    run_id: str
    vm_id: str
    step: str
    state: str
    started_at: datetime
    finished_at: datetime | None = None
    error: str = ""

    @property
    def seconds(self) -> float | None:
        """How long the attempt took; `None` while it runs."""
        return None if self.finished_at is None else (self.finished_at - self.started_at).total_seconds()


class EvidenceRow(msgspec.Struct, frozen=True, kw_only=True):
    """One piece of evidence; the shape of `document` is said at `EvidenceKind`."""

    id: int
    run_id: str
    vm_id: str
    kind: EvidenceKind
    document: dict[str, Any]
    recorded_at: datetime
    subject: str = ""


class SourceChange(msgspec.Struct, frozen=True, kw_only=True):
    """A change made on the source. Open until `undone_at` is set."""

    id: int
    run_id: str
    vm_id: str
    kind: str
    detail: dict[str, Any]
    recorded_at: datetime
    undone_at: datetime | None = None


class ProgressRow(msgspec.Struct, frozen=True, kw_only=True):
    """The newest progress of one disk in one step."""

    run_id: str
    vm_id: str
    step: str
    progress: Progress
    updated_at: datetime


class InventoryMoment(msgspec.Struct, frozen=True, kw_only=True):
    """One look at a source: when, and how many objects were there."""

    id: int
    source: str
    taken_at: datetime
    objects: int


class InventoryObject(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that a source holds. `kind` is vm, host, cluster, datastore, network …, `key` unique within it.

    `digest` tells versions of the object apart; the store makes it.
    """

    kind: str
    key: str
    name: str
    document: dict[str, Any]
    digest: str = ""


class InventoryChange(msgspec.Struct, frozen=True, kw_only=True):
    """An object at two moments: new without `before`, gone without `now`."""

    kind: str
    key: str
    before: InventoryObject | None
    now: InventoryObject | None


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """What rules of one version said of one version (`digest`) of a VM."""

    digest: str
    rules_version: str
    concerns: tuple[Concern, ...]


class Approval(msgspec.Struct, frozen=True, kw_only=True):
    """A VM of a wave as somebody approved it: its fingerprint and its `SourceVm` as JSON values."""

    vm_id: str
    plan_hash: str
    by: str
    fingerprint: str
    document: dict[str, Any]
    approved_at: datetime


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a plan (as it was under `plan_hash`) is ready, and its conditions, gravest first."""

    plan_name: str
    plan_hash: str
    is_ready: bool
    conditions: tuple[Condition, ...]
    judged_at: datetime
