"""`mtv validate`: look at a plan's sources and target, change nothing."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from mtv.cli.columns import table
from mtv.cli.concerns import about_plan, about_vms
from mtv.cli.installation import Installation
from mtv.cli.plans import load_or_complain
from mtv.kubevirt.target_facts import facts_of
from mtv.model.concern import Category, Concern
from mtv.model.condition import Condition
from mtv.model.errors import PlanError, TemporaryError
from mtv.model.plan import Plan, PlannedVm, Wave
from mtv.model.source import SourceVm
from mtv.model.target_facts import TargetFacts
from mtv.model.text import count_of, printable
from mtv.plan import effective
from mtv.providers.registry import open_provider


class _Judged(msgspec.Struct, frozen=True, kw_only=True):
    """A wave as validated: conditions of the plan, and of each VM by its id the concerns, gravest first."""

    wave: Wave
    read: int
    conditions: tuple[Condition, ...]
    concerns: dict[str, list[Concern]]
    rules_versions: dict[str, str]

    def verdict(self, vm_id: str) -> str:
        """Return whether the VM can be migrated: ready, blocked, or blocked with its plan."""
        if any(concern.blocks for concern in self.concerns[vm_id]):
            return "blocked"
        return "blocked with its plan" if any(condition.blocks for condition in self.conditions) else "ready"

    def by_concern(self) -> list[tuple[Concern, list[str]]]:
        """Return each concern once, gravest first, with the names of its VMs."""
        vms: dict[Concern, list[str]] = {}
        for vm in self.wave.vms:
            for concern in self.concerns[vm.id]:
                vms.setdefault(concern, []).append(vm.name)
        return sorted(vms.items(), key=lambda pair: (pair[0].category.rank, pair[0].id))


def validate(arguments: argparse.Namespace, installation: Installation) -> int:
    """Read the plan's VMs and its target, evaluate rules and conditions, print them; 1 when a Critical one blocks."""
    plan = load_or_complain(arguments.path).plan
    if plan is None:
        raise PlanError(f"{arguments.path} does not check")
    waves = [wave for wave in plan.waves if arguments.wave in (None, wave.name)]
    if not waves:
        raise PlanError(f"plan {plan.name} has no wave {arguments.wave}", cure=f"it has {_names(plan)}")
    target = _target(plan, installation)
    judged = [_judge(plan, wave, target, installation) for wave in waves]
    if arguments.json:
        print(
            json.dumps({"plan": plan.name, "waves": [_document(one) for one in judged]}, indent=2, ensure_ascii=False)
        )
    else:
        for number, one in enumerate(judged):
            print("\n" if number else "", end="")
            _print(one)
    return 1 if any(one.verdict(vm.id) != "ready" for one in judged for vm in one.wave.vms) else 0


def _judge(plan: Plan, wave: Wave, target: TargetFacts, installation: Installation) -> _Judged:
    from mtv.validation import conditions, for_plan, for_vm, merged
    from mtv.validation.acceptance import accepted_conditions
    from mtv.validation.conditions.acceptances import unknown_acceptances
    from mtv.validation.conditions.sources import unverified

    seen, concerns, versions = _rules_say(plan, wave, installation)
    said = conditions(
        plan,
        wave,
        seen,
        target=target,
        concerns=concerns,
        service_account=installation.settings.pod_service_account,
        others=_others(plan, wave, seen, installation),
    )
    used = dict.fromkeys(effective(plan, wave, vm).source for vm in wave.vms)
    untrusted = unverified(installation.connections.get(source) for source in used)
    misspelt = unknown_acceptances(plan, installation.settings.rules_folder, installation.settings.more_rules_folders)
    said = merged(accepted_conditions(plan, [*said, *untrusted, *misspelt]))
    about_vms = [condition for condition in said if condition.vms]
    return _Judged(
        wave=wave,
        read=sum(map(len, seen.values())),
        conditions=tuple(for_plan(said)),
        concerns={
            vm.id: sorted([*concerns[vm.id], *for_vm(about_vms, vm.id)], key=lambda concern: concern.category.rank)
            for vm in wave.vms
        },
        rules_versions=versions,
    )


def _others(
    plan: Plan, wave: Wave, seen: Mapping[str, Sequence[SourceVm]], installation: Installation
) -> dict[str, dict[str, str]]:
    """Return which VMs the sources of those not found held when an inventory was last taken, by id of the missing one.

    Nothing where none was taken: the source itself is not asked for all of its VMs. A store of another version, which
    has them and cannot be read, is told of: the verdicts do not hang on it.
    """
    from mtv.inventory.history import others_of
    from mtv.store import StoreNewer, StoreOlder

    missing = {vm.id: effective(plan, wave, vm).source for vm in wave.vms if not seen[vm.id]}
    if not missing:
        return {}
    try:
        with installation.store_to_read() as store:
            return others_of(store, missing) if store is not None else {}
    except (StoreNewer, StoreOlder) as refused:
        print(f"VMs of like names are not told: {refused}", file=sys.stderr)
        return {}


def _print(judged: _Judged) -> None:
    wave = judged.wave.name
    for line in about_plan(wave, judged.conditions):
        print(line)
    for line in about_vms(wave, {vm.name: judged.concerns[vm.id] for vm in judged.wave.vms}):
        print(line)
    verdicts = [judged.verdict(vm.id) for vm in judged.wave.vms]
    rows = []
    for vm, verdict in zip(judged.wave.vms, verdicts, strict=True):
        counted = Counter(concern.category for concern in judged.concerns[vm.id])
        rows.append((vm.name, verdict, *(counted[category] for category in Category)))
    print(f"\n{table(('VM', 'VERDICT', *(category.upper() for category in Category)), rows, right=(2, 3, 4))}")
    together = ", ".join(f"{count} {verdict}" for verdict, count in Counter(verdicts).items())
    print(f"\nwave {wave}: {count_of(judged.read, 'VM')} read, {len(judged.wave.vms)} judged: {together}")


def _document(judged: _Judged) -> dict[str, Any]:
    return {
        "wave": judged.wave.name,
        "rules": judged.rules_versions,
        "conditions": msgspec.to_builtins(judged.conditions),
        "vms": [
            {
                "id": vm.id,
                "name": vm.name,
                "verdict": judged.verdict(vm.id),
                "concerns": msgspec.to_builtins(judged.concerns[vm.id]),
            }
            for vm in judged.wave.vms
        ],
        "concerns": [{**msgspec.to_builtins(concern), "vms": vms} for concern, vms in judged.by_concern()],
    }


def _target(plan: Plan, installation: Installation) -> TargetFacts:
    """Read the target's facts; one that does not answer now leaves them unknown, so that the source is judged."""
    try:
        return facts_of(installation.connections, plan.target)
    except TemporaryError as error:
        return TargetFacts.unknown(str(error))


def _rules_say(
    plan: Plan, wave: Wave, installation: Installation
) -> tuple[dict[str, list[SourceVm]], dict[str, list[Concern]], dict[str, str]]:
    """Read the wave's VMs and return what was found under each VM's name, and what rules say of it, by VM id.

    The third are the versions of the rules, by connection.
    """
    from mtv.inventory import snapshot
    from mtv.inventory.progress import spoken
    from mtv.validation import accepted, evaluate, require_rules

    def tell(line: str) -> None:
        print(printable(line), file=sys.stderr, flush=True)

    by_source: dict[str, list[PlannedVm]] = {}
    for planned in wave.vms:
        by_source.setdefault(effective(plan, wave, planned).source, []).append(planned)
    found: dict[str, list[SourceVm]] = {planned.id: [] for planned in wave.vms}
    concerns: dict[str, list[Concern]] = {planned.id: [] for planned in wave.vms}
    versions: dict[str, str] = {}
    for source, planned_vms in by_source.items():
        connection = installation.connections.get(source)
        with open_provider(connection) as provider:
            names = [planned.name for planned in planned_vms]
            seen = snapshot(provider, names, on_progress=spoken(tell, source))
        for what, reason in seen.refused.items() if seen.missing else ():
            tell(f"{source}: {what} is not taken: {reason}")
        settings = installation.settings
        rules = require_rules(
            settings.rules_folder,
            connection.conn_type,
            settings.more_rules_folders,
            tell=tell,
        )
        versions[source] = rules.version
        ids = {planned.name: planned.id for planned in planned_vms}
        for vm, said in zip(seen.vms, evaluate(rules, [vm.document for vm in seen.vms]), strict=True):
            found[ids[vm.name]].append(vm)
            concerns[ids[vm.name]] += accepted(plan, ids[vm.name], said)
    return found, concerns, versions


def _names(plan: Plan) -> str:
    return ", ".join(wave.name for wave in plan.waves)
