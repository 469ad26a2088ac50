"""Steps of a whole run: freeze, snapshot, validate, report, verdict."""

from __future__ import annotations

from collections import defaultdict

import msgspec

from mtv.inventory import snapshot
from mtv.inventory.history import others_of
from mtv.inventory.progress import spoken
from mtv.kubevirt.target_facts import facts_of
from mtv.model.concern import Concern
from mtv.model.condition import Condition
from mtv.model.errors import PermanentError
from mtv.model.evidence import EvidenceKind, VmPhase
from mtv.model.source import SourceVm
from mtv.reporting import ReportFiles, write_report
from mtv.steps import closing, source, source_copies
from mtv.steps.approval import since_approval
from mtv.steps.closing import close
from mtv.steps.context import RunContext, VmContext
from mtv.steps.journal import recorded
from mtv.steps.recovery import settle_leftovers
from mtv.validation import RuleSet, accepted, conditions, for_plan, for_vm, merged, require_rules
from mtv.validation import validate as validate_documents
from mtv.validation.acceptance import accepted_conditions
from mtv.validation.conditions.acceptances import unknown_acceptances
from mtv.validation.conditions.sources import unverified

CONDITIONS = "conditions"
"""Subject of the run's evidence CONCERNS that holds the conditions of its plan."""
SUITE = "suite:"
"""Beginning of the subject of that which holds the result of a source's suite; the connection's id follows."""

__all__ = ["close", "freeze", "report", "snapshot_inventory", "validate", "verdict"]


def freeze(ctx: RunContext) -> list[str]:
    """Pin the run's VM ids (those not migrated yet, in plan order) and return them; cleared, the same list again.

    VMs that an earlier run has left held are settled first, so that this run sees their sources as they should be, and
    copies that one had to leave on a source are removed.
    """
    with recorded(ctx, "freeze"):
        pinned = ctx.store.run(ctx.run.id).frozen_vms
        if pinned is not None:
            return list(pinned)
        settle_leftovers(ctx)
        source_copies.remove_left(ctx)
        migrated = {row.vm_id for row in ctx.store.vms(ctx.plan.name) if row.phase is VmPhase.MIGRATED}
        wanted = [vm.id for vm in ctx.wave.vms if vm.id not in migrated]
        ctx.log(f"wave {ctx.wave.name}: {len(wanted)} VM(s), {len(ctx.wave.vms) - len(wanted)} migrated already")
        return ctx.store.freeze_vms(ctx.run.id, wanted)


def snapshot_inventory(ctx: RunContext) -> None:
    """Read the run's VMs from their sources and pin what was seen (evidence SOURCE).

    A VM that its source does not have is left out here and becomes a Critical concern in `validate`.
    """
    with recorded(ctx, "snapshot_inventory"):
        for connection_id, vms in _by_source(ctx).items():
            with ctx.provider(connection_id) as provider:
                wanted = [vm.vm.name for vm in vms]
                seen = snapshot(provider, wanted, on_progress=spoken(ctx.log, connection_id))
            by_name: dict[str, list[SourceVm]] = defaultdict(list)
            for found in seen.vms:
                by_name[found.name].append(found)
            for vm in vms:
                for found, subject in zip(by_name.get(vm.vm.name, ()), ("", source.NAMESAKE), strict=False):
                    source.pin(ctx, vm.vm.id, found, subject=subject)
            ctx.log(f"{connection_id}: {len(by_name)} of {len(vms)} VM(s) read")
            for what, reason in seen.refused.items() if seen.missing else ():
                ctx.log(f"{connection_id}: {what} is not taken: {reason}")
            for what, names in seen.unreadable.items():
                ctx.log(f"{connection_id}: the user may not read {what} of {', '.join(names)}")


def validate(ctx: RunContext) -> None:
    """Evaluate rules on what was pinned, and conditions of the plan on that and on the target as it is now.

    What is Critical about a VM blocks it, not the others; what is Critical about the plan blocks all of them.
    Raises `TemporaryError` while the target does not answer.
    """
    with recorded(ctx, "validate"):
        sources = _by_source(ctx)
        contexts = [vm for vms in sources.values() for vm in vms]
        found = {vm.vm.id: source.seen(ctx, vm.vm.id) for vm in contexts}
        present = {vm_id: vm for vm_id, vm in found.items() if vm is not None}
        concerns: dict[str, list[Concern]] = {}
        versions: dict[str, str] = {}
        for connection_id, vms in sources.items():
            rules = _rules(ctx, connection_id)
            seen = {vm.vm.id: present[vm.vm.id] for vm in vms if vm.vm.id in present}
            concerns |= _rules_say(ctx, connection_id, rules, seen)
            versions |= {vm.vm.id: rules.version for vm in vms}
        said = _conditions(ctx, set(found), present, concerns)
        for vm in contexts:
            _judge(ctx, vm, [*for_vm(said, vm.vm.id), *concerns.get(vm.vm.id, [])], versions[vm.vm.id])


def report(ctx: RunContext) -> ReportFiles:
    """Write the run's report and return where it lies."""
    with recorded(ctx, "report"):
        files = write_report(ctx.store, ctx.run.id, ctx.settings.reports_folder)
        ctx.log(f"report: {files.html}")
        return files


def verdict(ctx: RunContext) -> None:
    """Finish the run. Raises `PermanentError` listing every VM that did not migrate, with its cause."""
    with recorded(ctx, "verdict"):
        close(ctx)
        failed = closing.not_migrated(ctx)
        if failed:
            words = "; ".join(f"{vm_id}: {reason}" for vm_id, reason in failed.items())
            pinned = ctx.store.run(ctx.run.id).frozen_vms or ()
            raise PermanentError(
                f"{len(failed)} of {len(pinned)} VM(s) did not migrate: {words}",
                cure="mend the cause and start the wave again: it takes only those",
                code="wave-failed",
            )


def _by_source(ctx: RunContext) -> dict[str, list[VmContext]]:
    """Return the run's pinned VMs by the connection they come from. Raises `PermanentError` before `freeze`."""
    pinned = ctx.store.run(ctx.run.id).frozen_vms
    if pinned is None:
        raise PermanentError("the run has not pinned its VMs", cure="clear the task freeze", code="not-frozen")
    sources: dict[str, list[VmContext]] = defaultdict(list)
    for vm_id in pinned:
        vm = ctx.for_vm(vm_id)
        sources[vm.vm.source].append(vm)
    return dict(sources)


def _rules(ctx: RunContext, connection_id: str) -> RuleSet:
    """Load the rules of a source. A broken rule file is named and silences no other; none at all is an error."""
    conn_type = ctx.connections.get(connection_id).conn_type
    return require_rules(ctx.settings.rules_folder, conn_type, ctx.settings.more_rules_folders, tell=ctx.log)


def _rules_say(
    ctx: RunContext, connection_id: str, rules: RuleSet, found: dict[str, SourceVm]
) -> dict[str, list[Concern]]:
    """Return what rules say of VMs, by VM id, those marked that the plan accepts; the suite's own result is kept."""
    judged = validate_documents(rules, [vm.document for vm in found.values()])
    document = {"vms": list(found), "rules_version": rules.version, "result": judged.result}
    ctx.store.add_evidence(ctx.run.id, "", EvidenceKind.CONCERNS, document, subject=f"{SUITE}{connection_id}")
    return {vm_id: accepted(ctx.plan, vm_id, said) for vm_id, said in zip(found, judged.concerns, strict=True)}


def _conditions(
    ctx: RunContext, pinned: set[str], present: dict[str, SourceVm], concerns: dict[str, list[Concern]]
) -> tuple[Condition, ...]:
    """Return the conditions of the run's VMs; those of the plan are logged here and kept as evidence of the run."""
    seen = {
        vm_id: [vm, *filter(None, [source.seen(ctx, vm_id, subject=source.NAMESAKE)])] for vm_id, vm in present.items()
    }
    # VMs that are migrated already are no part of this run; names are compared with those of the whole plan.
    wave = ctx.wave.model_copy(update={"vms": tuple(vm for vm in ctx.wave.vms if vm.id in pinned)})
    said = conditions(
        ctx.plan,
        wave,
        seen,
        target=facts_of(ctx.connections, ctx.plan.target, ctx.open_cluster),
        concerns=concerns,
        service_account=ctx.settings.pod_service_account,
        others=others_of(ctx.store, {vm_id: ctx.for_vm(vm_id).vm.source for vm_id in pinned - present.keys()}),
    )
    changed = since_approval(ctx.store, ctx.plan.name, ctx.run.plan_hash, ctx.wave.name, present)
    untrusted = unverified(ctx.connections.get(conn_id) for conn_id in _by_source(ctx))
    misspelt = unknown_acceptances(ctx.plan, ctx.settings.rules_folder, ctx.settings.more_rules_folders)
    said = merged(accepted_conditions(ctx.plan, [*said, *changed, *untrusted, *misspelt]))
    about_plan = for_plan(said)
    for condition in about_plan:
        ctx.log(f"plan {ctx.plan.name}: {condition.category.value}: {condition.message}")
    document = {
        "concerns": msgspec.to_builtins([condition.concern() for condition in about_plan]),
        "conditions": msgspec.to_builtins(said),
    }
    ctx.store.add_evidence(ctx.run.id, "", EvidenceKind.CONCERNS, document, subject=CONDITIONS)
    return said


def _judge(ctx: RunContext, vm: VmContext, concerns: list[Concern], rules_version: str) -> None:
    """Keep a VM's concerns as evidence, with the version of the rules.

    A Critical one that is not accepted marks the VM blocked; one found clean that was blocked before is pending again.
    One that is migrated stays that: what its source or its name look like by now is no business of a run any more.
    """
    document = {"concerns": msgspec.to_builtins(concerns), "rules_version": rules_version}
    ctx.store.add_evidence(ctx.run.id, vm.vm.id, EvidenceKind.CONCERNS, document)
    for concern in concerns:
        by = f" (accepted by {concern.accepted.by}: {concern.accepted.reason})" if concern.accepted else ""
        ctx.log(f"{vm.vm.name}: {concern.category.value}: {concern.label}{by}")
    row = ctx.store.vm(*vm.key)
    blocks = any(concern.blocks for concern in concerns)
    if not row.holder and row.phase is not VmPhase.MIGRATED and (blocks or row.phase is VmPhase.BLOCKED):
        ctx.store.claim_vm(*vm.key, ctx.run.id)
        ctx.store.release_vm(*vm.key, ctx.run.id, VmPhase.BLOCKED if blocks else VmPhase.PENDING)
