"""`mtv validate`: look at a plan's sources and target, change nothing."""

from __future__ import annotations

import argparse

from mtv.cli.columns import printable
from mtv.cli.installation import Installation
from mtv.cli.plans import load_or_complain
from mtv.kubevirt.target_facts import facts_of
from mtv.model.concern import Category, Concern
from mtv.model.errors import PlanError, TemporaryError
from mtv.model.plan import Plan, PlannedVm, Wave
from mtv.model.source import SourceVm
from mtv.model.target_facts import TargetFacts
from mtv.plan import effective
from mtv.providers.registry import open_provider
from mtv.reporting import words

_ORDER = list(Category)


def validate(arguments: argparse.Namespace, installation: Installation) -> int:
    """Read the plan's VMs and its target, evaluate rules and conditions, print them; 1 when a Critical one blocks."""
    from mtv.validation import conditions, for_plan, for_vm, merged
    from mtv.validation.conditions.sources import unverified

    plan = load_or_complain(arguments.path).plan
    if plan is None:
        raise PlanError(f"{arguments.path} does not check")
    waves = [wave for wave in plan.waves if arguments.wave in (None, wave.name)]
    if not waves:
        raise PlanError(f"plan {plan.name} has no wave {arguments.wave}", cure=f"it has {_names(plan)}")
    blocked = 0
    target = _target(plan, installation)
    for wave in waves:
        seen, concerns = _rules_say(plan, wave, installation)
        said = conditions(
            plan,
            wave,
            seen,
            target=target,
            concerns=concerns,
            service_account=installation.settings.pod_service_account,
        )
        used = dict.fromkeys(effective(plan, wave, vm).source for vm in wave.vms)
        said = merged([*said, *unverified(installation.connections.get(source) for source in used)])
        about_plan = for_plan(said)
        for condition in about_plan:
            print(f"wave {wave.name}: {_line(condition.category, condition.message, condition.cure)}")
        for vm in wave.vms:
            found = [*concerns[vm.id], *for_vm([c for c in said if c.vms], vm.id)]
            critical = any(concern.category is Category.CRITICAL for concern in found)
            stopped = critical or any(condition.blocks for condition in about_plan)
            blocked += stopped
            verdict = "blocked" if critical else "blocked with its plan" if stopped else "ready"
            print(f"{wave.name}/{printable(vm.name)}: {verdict}, {words.count(len(found), 'concern')}")
            for concern in sorted(found, key=lambda concern: _ORDER.index(concern.category)):
                print(f"  {_line(concern.category, concern.label, concern.assessment)}")
        print(f"wave {wave.name}: {sum(map(len, seen.values()))} VMs read, {len(wave.vms)} judged")
    return 1 if blocked else 0


def _line(category: str, what: str, cure: str) -> str:
    return f"{category}: {printable(what)} — {printable(cure)}"


def _target(plan: Plan, installation: Installation) -> TargetFacts:
    """Read the target's facts; one that does not answer now leaves them unknown, so that the source is judged."""
    try:
        return facts_of(installation.connections, plan.target)
    except TemporaryError as error:
        return TargetFacts.unknown(str(error))


def _rules_say(
    plan: Plan, wave: Wave, installation: Installation
) -> tuple[dict[str, list[SourceVm]], dict[str, list[Concern]]]:
    """Read the wave's VMs and return what was found under each VM's name, and what rules say of it, by VM id."""
    from mtv.inventory import snapshot
    from mtv.validation import evaluate, load_rules

    by_source: dict[str, list[PlannedVm]] = {}
    for planned in wave.vms:
        by_source.setdefault(effective(plan, wave, planned).source, []).append(planned)
    found: dict[str, list[SourceVm]] = {planned.id: [] for planned in wave.vms}
    concerns: dict[str, list[Concern]] = {planned.id: [] for planned in wave.vms}
    for source, planned_vms in by_source.items():
        connection = installation.connections.get(source)
        with open_provider(connection) as provider:
            seen = snapshot(provider, [planned.name for planned in planned_vms])
        settings = installation.settings
        rules = load_rules(settings.rules_folder, connection.conn_type, settings.more_rules_folders)
        for problem in rules.problems:
            print(printable(problem))
        ids = {planned.name: planned.id for planned in planned_vms}
        for vm, said in zip(seen.vms, evaluate(rules, [vm.document for vm in seen.vms]), strict=True):
            found[ids[vm.name]].append(vm)
            concerns[ids[vm.name]] += said
    return found, concerns


def _names(plan: Plan) -> str:
    return ", ".join(wave.name for wave in plan.waves)
