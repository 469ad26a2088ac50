"""From the store's evidence to the facts of a report. Nothing is looked up anywhere else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from mtv.model.evidence import EvidenceKind, VmPhase
from mtv.model.plan import Plan, PlannedVm, Wave
from mtv.reporting.facts import ChangeFacts, DiskFacts, FailureFacts, RunFacts, StepFacts, Summary, VmFacts
from mtv.reporting.kept import kept_work
from mtv.store import EvidenceRow, Run, SourceChange, StepRow, Store

_FINAL = "final"


def read_run(store: Store, run_id: str, *, now: datetime | None = None) -> RunFacts:
    """Read everything a report says about a run. Raises `NotFound` when the store does not know it."""
    now = now or datetime.now(UTC)
    run = store.run(run_id)
    plan = store.plan(run.plan_hash)
    wave = plan.wave(run.wave)
    evidence, steps, changes = store.evidence(run_id), store.steps(run_id), store.source_changes(run_id)
    frozen = run.frozen_vms
    planned = {vm.id: vm for vm in wave.vms}
    ids = list(planned) if frozen is None else list(frozen)
    vms = tuple(
        _read_vm(
            store,
            run,
            plan,
            wave,
            planned.get(vm_id) or PlannedVm(id=vm_id, name=vm_id),
            [row for row in evidence if row.vm_id == vm_id],
            [row for row in steps if row.vm_id == vm_id],
            [change for change in changes if change.vm_id == vm_id],
        )
        for vm_id in ids
    )
    run_steps = [row for row in steps if not row.vm_id]
    ended = run.finished_at
    return RunFacts(
        run_id=run.id,
        plan_name=run.plan_name,
        wave=run.wave,
        description=plan.description,
        state=run.state,
        dag_id=run.dag_id,
        dag_run_id=run.dag_run_id,
        plan_hash=run.plan_hash,
        started_at=run.started_at,
        finished_at=ended,
        seconds=((ended or now) - run.started_at).total_seconds(),
        written_at=now,
        target_connection=plan.target.connection,
        namespace=plan.target.namespace,
        summary=_summary(vms),
        vms=vms,
        run_steps=_steps(run_steps),
        conditions=_conditions(evidence),
    )


def _read_vm(
    store: Store,
    run: Run,
    plan: Plan,
    wave: Wave,
    vm: PlannedVm,
    evidence: Sequence[EvidenceRow],
    steps: Sequence[StepRow],
    changes: Sequence[SourceChange],
) -> VmFacts:
    newest: dict[EvidenceKind, dict[str, Any]] = {}
    for row in evidence:
        if row.kind is not EvidenceKind.SOURCE or row.subject != _FINAL:
            newest[row.kind] = row.document
    # What is copied is the VM as it was after power-off; its disks count when it was read.
    final = next((row.document for row in reversed(evidence) if row.subject == _FINAL), None)
    kept = {kind: document for kind, document in kept_work(store, run, vm.id, steps).items() if kind not in newest}
    newest |= kept
    stand = store.vm(run.plan_name, vm.id)
    settled = newest.get(EvidenceKind.SETTLED)
    target_vm = newest.get(EvidenceKind.TARGET_VM)
    step_facts = _steps(steps)
    source = newest.get(EvidenceKind.SOURCE)
    judged = newest.get(EvidenceKind.CONCERNS) or {}
    connection = vm.source or wave.defaults.source or plan.defaults.source
    return VmFacts(
        id=vm.id,
        name=vm.name,
        outcome=_outcome(settled, evidence, steps, stand.phase if stand.last_run == run.id else None),
        source_connection=connection or (plan.source.connection if plan.source else ""),
        target_name=str((target_vm or {}).get("name") or stand.target_name or vm.target_name or ""),
        namespace=str((target_vm or {}).get("namespace") or plan.target.namespace),
        disks=_disks(final or source, newest, is_copy_kept=EvidenceKind.TRANSFER in kept),
        steps=step_facts,
        seconds=_span(steps),
        concerns=tuple(judged.get("concerns", ())),
        rules_version=str(judged.get("rules_version", "")),
        failures=tuple(_failure(item) for item in evidence if item.kind is EvidenceKind.FAILURE),
        changes=tuple(
            ChangeFacts(kind=c.kind, detail=c.detail, recorded_at=c.recorded_at, undone_at=c.undone_at) for c in changes
        ),
        source=source,
        power=newest.get(EvidenceKind.POWER),
        guest=newest.get(EvidenceKind.GUEST),
        conversion=newest.get(EvidenceKind.CONVERSION),
        target_vm=target_vm,
        boot=newest.get(EvidenceKind.BOOT),
        settled=settled,
        earlier=tuple(kind.value for kind in kept),
    )


def _conditions(evidence: Sequence[EvidenceRow]) -> tuple[dict[str, Any], ...]:
    """Return the conditions about the plan as a whole; those about VMs are among the concerns of each."""
    rows = [
        row for row in evidence if row.kind is EvidenceKind.CONCERNS and not row.vm_id and "conditions" in row.document
    ]
    found = rows[-1].document["conditions"] if rows else ()
    return tuple(condition for condition in found if not condition.get("vms"))


def _outcome(
    settled: dict[str, Any] | None, evidence: Sequence[EvidenceRow], steps: Sequence[StepRow], phase: VmPhase | None
) -> str:
    """Name what became of the VM. A `settled` older than a later step (a retry that goes on) does not count."""
    last_step = steps[-1] if steps else None
    if settled is not None and (last_step is None or last_step.step == "settle" or last_step.state != "running"):
        return str(settled.get("outcome", "settled"))
    if phase is VmPhase.BLOCKED:
        return "blocked"
    if last_step is not None and last_step.state == "running":
        return "running"
    if phase is VmPhase.FAILED or any(row.kind is EvidenceKind.FAILURE for row in evidence):
        return "failed"
    if phase is VmPhase.MIGRATED:
        return "migrated"
    return "not started" if not steps else "unfinished"


def _disks(
    source: dict[str, Any] | None, newest: dict[EvidenceKind, dict[str, Any]], *, is_copy_kept: bool
) -> tuple[DiskFacts, ...]:
    copied = {disk["id"]: disk for disk in newest.get(EvidenceKind.TRANSFER, {}).get("disks", ())}
    claims = {claim["disk"]: claim for claim in newest.get(EvidenceKind.VOLUMES, {}).get("claims", ())}
    converted = newest.get(EvidenceKind.CONVERSION, {}).get("digests", {})
    known = {disk["id"]: disk for disk in (source or {}).get("disks", ())}
    facts = []
    for disk_id in dict.fromkeys([*known, *copied, *claims]):
        seen, copy, claim = known.get(disk_id, {}), copied.get(disk_id), claims.get(disk_id, {})
        done = None if is_copy_kept else copy
        facts.append(
            DiskFacts(
                id=disk_id,
                size_bytes=int((copy or seen or claim).get("size_bytes", 0)),
                data_bytes=None if copy is None else copy.get("bytes_data", 0),
                read_bytes=None if done is None else done.get("bytes_read", 0),
                resumed_bytes=None if done is None else done.get("bytes_resumed", 0),
                digest="" if copy is None else copy.get("digest", ""),
                proof="" if copy is None else copy.get("proof", "none"),
                verify="" if copy is None else copy.get("verify") or "",
                reread=None if copy is None else copy.get("reread", False),
                source_digest="" if copy is None else copy.get("source_digest", ""),
                converted_digest=converted.get(disk_id, ""),
                seconds=None if done is None else done.get("seconds"),
                storage=seen.get("storage", ""),
                claim=claim.get("name", ""),
                storage_class=claim.get("class", "") or "",
                volume_mode=claim.get("mode", "") or "",
            )
        )
    return tuple(facts)


def _failure(row: EvidenceRow) -> FailureFacts:
    document = row.document
    return FailureFacts(
        step=str(document.get("step") or row.subject),
        code=str(document.get("code", "")),
        message=str(document.get("message", "")),
        cure=str(document.get("cure", "")),
        retryable=bool(document.get("retryable", False)),
        disk=str(document.get("disk", "")),
        offset=document.get("offset"),
        recorded_at=row.recorded_at,
    )


def _steps(rows: Sequence[StepRow]) -> tuple[StepFacts, ...]:
    """One fact for each step. Attempts that overlap are one attempt, seen by two recorders."""
    by_step: dict[str, list[StepRow]] = {}
    for row in rows:
        by_step.setdefault(row.step, []).append(row)
    first = min((row.started_at for row in rows), default=None)
    facts = []
    for step, attempts in by_step.items():
        begins = min(row.started_at for row in attempts)
        count, end = 0, None
        for row in sorted(attempts, key=lambda row: row.started_at):
            if end is None or row.started_at >= end:
                count += 1
            row_end = row.finished_at or datetime.max.replace(tzinfo=UTC)
            end = row_end if end is None else max(end, row_end)
        running = any(row.finished_at is None for row in attempts)
        last = max(attempts, key=lambda row: (row.finished_at or datetime.max.replace(tzinfo=UTC), row.id))
        facts.append(
            StepFacts(
                step=step,
                state="running" if running else last.state,
                started_at=begins,
                offset_s=0.0 if first is None else (begins - first).total_seconds(),
                seconds=None if running or end is None else (end - begins).total_seconds(),
                attempts=count,
                error=last.error,
            )
        )
    return tuple(facts)


def _span(rows: Sequence[StepRow]) -> float | None:
    ends = [row.finished_at for row in rows if row.finished_at is not None]
    if not ends or len(ends) < len(rows):
        return None
    return (max(ends) - min(row.started_at for row in rows)).total_seconds()


def _summary(vms: Sequence[VmFacts]) -> Summary:
    open_ones = [concern for vm in vms for concern in vm.concerns if not concern.get("accepted")]
    categories = Counter(concern.get("category") for concern in open_ones)
    return Summary(
        vms=len(vms),
        outcomes=dict(Counter(vm.outcome for vm in vms)),
        booted=sum(1 for vm in vms if (vm.boot or {}).get("proven")),
        disks=sum(len(vm.disks) for vm in vms),
        size_bytes=sum(vm.size_bytes for vm in vms),
        read_bytes=sum(vm.read_bytes for vm in vms),
        resumed_bytes=sum(vm.resumed_bytes for vm in vms),
        critical=categories["Critical"],
        warnings=categories["Warning"],
        accepted=sum(len(vm.concerns) for vm in vms) - len(open_ones),
    )
