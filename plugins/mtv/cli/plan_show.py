"""`mtv plan show`: a plan with every option decided, and what the store knows of it."""

from __future__ import annotations

import argparse

from mtv.cli.columns import table
from mtv.cli.installation import Installation
from mtv.cli.plan_words import about_plan, approved_words, chosen
from mtv.cli.plans import load_or_complain
from mtv.model.errors import PlanError
from mtv.model.evidence import VmPhase
from mtv.model.plan import Plan
from mtv.model.text import count_of, printable
from mtv.plan import effective, not_built_yet
from mtv.reporting import words
from mtv.store import Approval, Run, Standing
from mtv.store.runs import hash_of


def show(arguments: argparse.Namespace, installation: Installation) -> int:
    """Print the plan's waves and VMs, with every option decided and what the store knows of them."""
    result = load_or_complain(arguments.path)
    plan = result.plan
    if plan is None:
        raise PlanError(f"{arguments.path} does not check")
    if arguments.json:
        print(plan.model_dump_json(indent=2, exclude_none=True))
        return 0
    print(f"plan {plan.name}" + (f": {plan.description}" if plan.description else ""))
    print(f"target {plan.target.connection}, namespace {plan.target.namespace}")
    status, phases, judged = _standing(plan, installation)
    print(f"status: {status}")
    approvals = _approvals(plan, installation)
    for line in about_plan(plan):
        print(printable(line))
    _print_conditions(plan, judged)
    for wave in plan.waves:
        after = f", after {', '.join(wave.start_after)}" if wave.start_after else ""
        print(f"\nwave {wave.name}: {count_of(len(wave.vms), 'VM')}, {wave.max_vms_in_flight} at once{after}")
        for line in approved_words(plan, wave, approvals[wave.name]):
            print(printable(line))
        rows = []
        for planned in wave.vms:
            vm = effective(plan, wave, planned)
            proof = "marker" if vm.boot_proof.marker else "login or agent"
            rows.append(
                (vm.name, vm.source, vm.target_name, vm.type, vm.target_power_state, vm.on_failure, proof,
                 phases.get(vm.id, "pending"), ", ".join(chosen(vm)))
            )  # fmt: skip
        columns = ("VM", "SOURCE", "TARGET", "TYPE", "POWER", "ON FAILURE", "BOOT PROOF", "PHASE", "OPTIONS")
        print(table(columns, rows))
    for problem in not_built_yet(plan, origins=result.origins):
        print(f"\nnot built yet: {printable(problem)}")
    return 0


def _standing(plan: Plan, installation: Installation) -> tuple[str, dict[str, str], Standing | None]:
    """Return the plan's status (Not ready, Ready, Running, Completed), the phase of each VM that a run touched, and
    how the plan stood when an inventory last judged it.
    """
    phases: dict[str, str] = {}
    active: Run | None = None
    judged: Standing | None = None
    with installation.store_to_read() as store:
        if store is not None:
            active = store.active_run(plan.name)
            phases = {row.vm_id: row.phase.value for row in store.vms(plan.name)}
            judged = store.standing(plan.name)
    if active is not None:
        return f"Running: run {active.id}, wave {active.wave}", phases, judged
    ids = [vm.id for wave in plan.waves for vm in wave.vms]
    if all(phases.get(vm_id) == VmPhase.MIGRATED for vm_id in ids):
        return "Completed", phases, judged
    unbuilt = not_built_yet(plan)
    if unbuilt:
        more = f" (and {len(unbuilt) - 1} more)" if len(unbuilt) > 1 else ""
        return f"Not ready: {unbuilt[0].message}{more}", phases, judged
    if judged is None:
        return "Ready, as far as its file tells: no inventory has judged it yet", phases, judged
    if judged.plan_hash != hash_of(plan):
        return "Ready, as far as its file tells: it has changed since an inventory judged it", phases, judged
    blocking = [condition for condition in judged.conditions if condition.blocks]
    if blocking:
        more = f" (and {len(blocking) - 1} more)" if len(blocking) > 1 else ""
        return f"Not ready: {printable(blocking[0].message)}{more}", phases, judged
    return "Ready", phases, judged


def _approvals(plan: Plan, installation: Installation) -> dict[str, dict[str, Approval]]:
    """Return what was approved, by wave and VM id."""
    with installation.store_to_read() as store:
        return {wave.name: store.approvals(plan.name, wave.name) if store else {} for wave in plan.waves}


def _print_conditions(plan: Plan, judged: Standing | None) -> None:
    if judged is None:
        return
    old = "" if judged.plan_hash == hash_of(plan) else ", as the plan was then"
    print(f"\n{count_of(len(judged.conditions), 'condition')}, judged {words.instant(judged.judged_at)}{old}")
    rows = [
        (one.category, one.type, one.reason, one.message, ", ".join(one.vms) or "(the plan)")
        for one in judged.conditions
    ]
    if rows:
        # The VMs come last: of a large plan they are longer than any line, and no other row is padded for them.
        print(table(("CATEGORY", "TYPE", "REASON", "MESSAGE", "VMS"), rows))
    for cure in dict.fromkeys(condition.cure for condition in judged.conditions if condition.blocks):
        print(f"  → {printable(cure)}")
