"""What a report says, as values: the shape of the JSON report. Sizes are bytes, times are seconds."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec


class DiskFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One disk: how much it is, how much was read, what proves the copy, and what it became.

    `verify` is how the target was verified (full, sampled, off), `reread` whether the source was read a second time;
    both are unknown of disks that were not copied or by a mover that did not say. `read_bytes`, `resumed_bytes` and
    `seconds` are this run's own: None of a disk whose copy an earlier run made, which this one kept.
    """

    id: str
    size_bytes: int
    data_bytes: int | None = None
    read_bytes: int | None = None
    resumed_bytes: int | None = None
    digest: str = ""
    proof: str = ""
    verify: str = ""
    reread: bool | None = None
    source_digest: str = ""
    converted_digest: str = ""
    seconds: float | None = None
    storage: str = ""
    claim: str = ""
    storage_class: str = ""
    volume_mode: str = ""


class StepFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One step of a VM: from its first beginning to its last end. `offset_s` counts from the VM's first step."""

    step: str
    state: str
    started_at: datetime
    offset_s: float
    seconds: float | None
    attempts: int = 1
    error: str = ""


class FailureFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A failure: what went wrong in which step, what to do, whether a retry helps."""

    step: str
    code: str
    message: str
    cure: str = ""
    retryable: bool = False
    disk: str = ""
    offset: int | None = None
    recorded_at: datetime | None = None


class ChangeFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A change made on the source, and when it was undone."""

    kind: str
    detail: dict[str, Any]
    recorded_at: datetime
    undone_at: datetime | None = None


class VmFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One VM of the run. Documents of evidence are kept as they were recorded, None when there is none.

    `earlier` names kinds of evidence that an earlier run of the plan recorded and whose work this run kept and used.
    """

    id: str
    name: str
    outcome: str
    source_connection: str
    target_name: str
    namespace: str
    disks: tuple[DiskFacts, ...] = ()
    steps: tuple[StepFacts, ...] = ()
    seconds: float | None = None
    concerns: tuple[dict[str, Any], ...] = ()
    rules_version: str = ""
    failures: tuple[FailureFacts, ...] = ()
    changes: tuple[ChangeFacts, ...] = ()
    source: dict[str, Any] | None = None
    power: dict[str, Any] | None = None
    guest: dict[str, Any] | None = None
    conversion: dict[str, Any] | None = None
    target_vm: dict[str, Any] | None = None
    boot: dict[str, Any] | None = None
    settled: dict[str, Any] | None = None
    earlier: tuple[str, ...] = ()

    @property
    def size_bytes(self) -> int:
        """Size of all disks."""
        return sum(disk.size_bytes for disk in self.disks)

    @property
    def is_copied(self) -> bool:
        """Whether this run read any disk."""
        return any(disk.read_bytes is not None for disk in self.disks)

    @property
    def read_bytes(self) -> int:
        """What this run read from the source."""
        return sum(disk.read_bytes or 0 for disk in self.disks)

    @property
    def resumed_bytes(self) -> int:
        """What an earlier attempt had proven, so that it was not read again."""
        return sum(disk.resumed_bytes or 0 for disk in self.disks)


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """The run in numbers; `outcomes` counts VMs by outcome, `booted` those whose boot is proven.

    Concerns that the plan accepts count as `accepted` only.
    """

    vms: int
    outcomes: dict[str, int]
    booted: int
    disks: int
    size_bytes: int
    read_bytes: int
    resumed_bytes: int
    critical: int
    warnings: int
    accepted: int = 0


class RunFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A whole run. `conditions` are those of the plan and its target as found by `validate`, gravest first."""

    run_id: str
    plan_name: str
    wave: str
    description: str
    state: str
    dag_id: str
    dag_run_id: str
    plan_hash: str
    started_at: datetime
    finished_at: datetime | None
    seconds: float | None
    written_at: datetime
    target_connection: str
    namespace: str
    summary: Summary
    vms: tuple[VmFacts, ...]
    run_steps: tuple[StepFacts, ...] = ()
    conditions: tuple[dict[str, Any], ...] = ()
