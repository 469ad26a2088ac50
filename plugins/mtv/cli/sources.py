"""`mtv inventory` and `mtv validate`: look at sources, change nothing."""

from __future__ import annotations

import argparse
import json

import msgspec

from mtv.cli.columns import printable, table
from mtv.cli.installation import Installation
from mtv.cli.plans import load_or_complain
from mtv.model.concern import Category, Concern
from mtv.model.errors import PlanError
from mtv.model.plan import Plan, Wave
from mtv.model.source import SourceVm
from mtv.plan import effective
from mtv.providers.registry import open_provider
from mtv.reporting import words

_ORDER = list(Category)


def inventory(arguments: argparse.Namespace, installation: Installation) -> int:
    """List what a source holds, as a table or as JSON."""
    from mtv.inventory import snapshot

    with open_provider(installation.connections.get(arguments.connection)) as provider:
        about = provider.check()
        seen = snapshot(provider, arguments.vm)
    if arguments.json:
        print(json.dumps([msgspec.to_builtins(vm) for vm in seen.vms], indent=2, ensure_ascii=False))
    else:
        print(printable(about))
        rows = [
            (vm.name, vm.power, vm.cpu_count, words.size(vm.memory_bytes), len(vm.disks),
             words.size(sum(disk.size_bytes for disk in vm.disks)), vm.firmware, vm.guest_os or "—")
            for vm in seen.vms
        ]  # fmt: skip
        print(table(("VM", "POWER", "CPUS", "MEMORY", "DISKS", "SIZE", "FIRMWARE", "GUEST"), rows, right=(2, 3, 4, 5)))
    for name in seen.missing:
        print(f"{printable(name)}: the source has no such VM")
    return 1 if seen.missing else 0


def validate(arguments: argparse.Namespace, installation: Installation) -> int:
    """Read the plan's VMs, evaluate rules and plan conditions, print the concerns; 1 when a Critical blocks a VM."""
    plan = load_or_complain(arguments.path).plan
    if plan is None:
        raise PlanError(f"{arguments.path} does not check")
    waves = [wave for wave in plan.waves if arguments.wave in (None, wave.name)]
    if not waves:
        raise PlanError(f"plan {plan.name} has no wave {arguments.wave}", cure=f"it has {_names(plan)}")
    blocked = 0
    for wave in waves:
        concerns, vms = _concerns(plan, wave, installation)
        for name, found in concerns.items():
            critical = any(concern.category is Category.CRITICAL for concern in found)
            blocked += critical
            verdict = "blocked" if critical else "ready"
            print(f"{wave.name}/{printable(name)}: {verdict}, {words.count(len(found), 'concern')}")
            for concern in sorted(found, key=lambda concern: _ORDER.index(concern.category)):
                print(f"  {concern.category}: {printable(concern.label)} — {printable(concern.assessment)}")
        print(f"wave {wave.name}: {len(vms)} VMs read, {len(concerns)} judged")
    return 1 if blocked else 0


def _concerns(plan: Plan, wave: Wave, installation: Installation) -> tuple[dict[str, list[Concern]], list[SourceVm]]:
    from mtv.inventory import snapshot
    from mtv.validation import evaluate, load_rules, plan_conditions

    by_source: dict[str, list[str]] = {}
    for planned in wave.vms:
        by_source.setdefault(effective(plan, wave, planned).source, []).append(planned.name)
    vms: list[SourceVm] = []
    concerns: dict[str, list[Concern]] = {planned.name: [] for planned in wave.vms}
    for source, names in by_source.items():
        with open_provider(installation.connections.get(source)) as provider:
            seen = snapshot(provider, names)
        settings, conn_type = installation.settings, installation.connections.get(source).conn_type
        rules = load_rules(settings.rules_folder, conn_type, settings.more_rules_folders)
        for problem in rules.problems:
            print(printable(problem))
        for vm, found in zip(seen.vms, evaluate(rules, [vm.document for vm in seen.vms]), strict=True):
            concerns[vm.name] += found
        vms += seen.vms
    for name, found in plan_conditions(plan, wave, vms).items():
        concerns[name] += found
    return concerns, vms


def _names(plan: Plan) -> str:
    return ", ".join(wave.name for wave in plan.waves)
