"""`mtv plan approve`: show what is known against a wave, then pin its VMs as they are in the newest inventory."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping

import msgspec

from mtv.cli.concerns import about_vms
from mtv.cli.installation import Installation
from mtv.cli.plans import load_or_complain
from mtv.inventory.history import VM, others_of
from mtv.model.concern import Concern
from mtv.model.errors import PermanentError, PlanError
from mtv.model.plan import Plan, Wave
from mtv.model.source import SourceVm
from mtv.model.text import count_of, printable
from mtv.plan import effective
from mtv.reporting import words
from mtv.store import InventoryObject, Judgement, Store


def approve(arguments: argparse.Namespace, installation: Installation) -> int:
    """Pin the VMs of the waves; 1, and nothing pinned, where a concern blocks one of them."""
    from mtv.steps.approval import pin

    plan = load_or_complain(arguments.path).plan
    waves = [] if plan is None else [wave for wave in plan.waves if arguments.wave in (None, wave.name)]
    if plan is None or not waves:
        names = "" if plan is None else ", ".join(wave.name for wave in plan.waves)
        raise PlanError(f"{arguments.path} has no wave {arguments.wave}", cure=f"it has {names}")
    strangers = [
        wave.name for wave in waves if wave.approval and arguments.by not in (wave.approval.by or [arguments.by])
    ]
    if strangers:
        raise PermanentError(f"{arguments.by} may not approve {', '.join(strangers)}", cure="the plan says who may")
    with installation.store() as store:
        for wave in waves:
            _judge(store, plan, wave, installation)
        known: dict[str, dict[str, tuple[SourceVm, list[Concern]]]] = {}
        refusals: list[PermanentError] = []
        for wave in waves:
            known[wave.name], unseen = _known(store, plan, wave)
            refusals += unseen
            for line in about_vms(wave.name, {vm_id: said for vm_id, (_, said) in known[wave.name].items()}):
                print(line)
        blocked = [vm_id for seen in known.values() for vm_id, (_, said) in seen.items() if any(c.blocks for c in said)]
        if blocked:
            refusals.append(
                PermanentError(
                    f"not approved: {', '.join(blocked)} cannot be migrated as it is",
                    cure="mend it on the source, take it out of the wave, or accept the concern in the plan",
                    code="approval-blocked",
                )
            )
        if refusals:
            for refusal in refusals[:-1]:
                print(f"mtv: {refusal}", file=sys.stderr)
            raise refusals[-1]
        for wave in waves:
            vms = {vm_id: vm for vm_id, (vm, _) in known[wave.name].items()}
            for vm_id, fingerprint in pin(store, plan, wave, arguments.by, vms).items():
                print(f"{wave.name}/{vm_id}: pinned as {fingerprint[:16]}")
            print(f"wave {wave.name}: approved by {printable(arguments.by)}, {count_of(len(vms), 'VM')}")
    return 0


def _judge(store: Store, plan: Plan, wave: Wave, installation: Installation) -> None:
    """Have the rules asked of those VMs that nobody has validated as they are: nothing is approved unseen."""
    from mtv.steps.inventory import InventoryContext, judge_vms

    names: dict[str, set[str]] = {}
    for planned in wave.vms:
        names.setdefault(effective(plan, wave, planned).source, set()).add(planned.name)
    for source, of_source in names.items():
        if store.inventory_moment(source) is None:
            continue  # then there is nothing to approve either, which is said below
        context = InventoryContext(
            store=store,
            connections=installation.connections,
            settings=installation.settings,
            source=source,
            log=lambda line: print(printable(line), file=sys.stderr),
        )
        judge_vms(context, names=of_source, tell_concerns=False)  # they are printed below, each once


def _known(
    store: Store, plan: Plan, wave: Wave
) -> tuple[dict[str, tuple[SourceVm, list[Concern]]], list[PermanentError]]:
    """Return each VM of the wave, by its id, as the newest inventory has it, and what rules said of it.

    The second are the refusals of VMs that it does not have, or not once.
    """
    from mtv.validation.acceptance import accepted

    found = {}
    refusals = []
    judgements: dict[str, dict[str, Judgement]] = {}
    sources = {planned.id: effective(plan, wave, planned).source for planned in wave.vms}
    moments = {source: store.inventory_moment(source) for source in set(sources.values())}
    held: dict[str, list[InventoryObject]] = {}
    for planned in wave.vms:
        moment = moments[sources[planned.id]]
        held[planned.id] = store.inventory(moment, kind=VM, name=planned.name) if moment is not None else []
    near = _near_names(store, plan, wave, {vm_id: source for vm_id, source in sources.items() if not held[vm_id]})
    for planned in wave.vms:
        source, rows = sources[planned.id], held[planned.id]
        moment = moments[source]
        if len(rows) != 1:
            anew = f"mtv inventory {source}"
            if moment is None:
                why, cure = f"no inventory of {source} has been taken yet", anew
            elif rows:
                why = f"the inventory of {source} holds {len(rows)} VMs of that name"
                cure = f"rename all but one of them on the source, then {anew}"
            else:
                why = f"the inventory of {source} ({words.instant(moment.taken_at)}) holds no VM of that name"
                cure = f"mend the name in the plan, or read the source again: {anew}"
                cure = f"{printable(near[planned.id])} Else {cure}" if planned.id in near else cure
            said = f"{printable(planned.name)} cannot be approved: {why}"
            refusals.append(PermanentError(said, cure=cure, code="approval-unseen"))
            continue
        if source not in judgements:  # all of a source at once
            judgements[source] = store.judgements(source)
        judged = judgements[source].get(rows[0].key)
        concerns = judged.concerns if judged is not None and judged.digest == rows[0].digest else ()
        found[planned.id] = (msgspec.convert(rows[0].document, SourceVm), accepted(plan, planned.id, concerns))
    return found, refusals


def _near_names(store: Store, plan: Plan, wave: Wave, missing: Mapping[str, str]) -> dict[str, str]:
    """Return words about VMs that may be meant by those of the wave that are `missing`, id to source."""
    from mtv.validation.conditions.case import Case
    from mtv.validation.conditions.vms import near_names

    cases = [Case(plan=plan, wave=wave, vm=planned, found=()) for planned in wave.vms if planned.id in missing]
    return near_names(cases, others_of(store, missing))
