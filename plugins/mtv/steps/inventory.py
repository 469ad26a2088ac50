"""Steps of an inventory: take it, then judge what changed and every plan that names the source.

A VM is judged again when its document or the rules have changed; a plan always, because its target may have changed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property

import msgspec

from mtv.inventory import snapshot
from mtv.inventory.history import VM, Recorded, record
from mtv.inventory.progress import spoken
from mtv.kubevirt.cluster import Cluster
from mtv.kubevirt.target_facts import facts_of
from mtv.model.concern import Category, Concern
from mtv.model.condition import Condition
from mtv.model.connection import Connection, Connections
from mtv.model.errors import PermanentError, TemporaryError
from mtv.model.evidence import VmPhase
from mtv.model.plan import Plan, PlannedVm
from mtv.model.settings import Settings
from mtv.model.source import SourceVm
from mtv.model.target_facts import TargetFacts
from mtv.plan import CompiledPlan, compile_folder, effective
from mtv.providers.base import Provider
from mtv.providers.registry import open_provider
from mtv.steps.approval import since_approval
from mtv.store import Judgement, Standing, Store
from mtv.store.runs import hash_of
from mtv.validation import accepted, conditions, evaluate, merged, require_rules
from mtv.validation.acceptance import accepted_conditions
from mtv.validation.conditions import sources
from mtv.validation.conditions.acceptances import unknown_acceptances

MAX_LINES = 200
"""How many changes are logged one by one; more are counted."""


@dataclass(frozen=True, kw_only=True)
class InventoryContext:
    """The inventory of one source. `open_provider` and `open_cluster` are the edges to the outside world."""

    store: Store
    connections: Connections
    settings: Settings
    source: str
    log: Callable[[str], None] = field(repr=False)
    open_provider: Callable[[Connection], Provider] = field(default=open_provider, repr=False)
    open_cluster: Callable[[Connection], Cluster] = field(default=Cluster, repr=False)


def take(ctx: InventoryContext) -> Recorded:
    """Read everything that the source holds, record it, and say what changed since the last time."""
    with ctx.open_provider(ctx.connections.get(ctx.source)) as provider:
        seen = snapshot(provider, on_progress=spoken(ctx.log, ctx.source))
    found = record(
        ctx.store, ctx.source, seen.vms, listed=seen.listed, keep=timedelta(days=ctx.settings.inventory_keep_days)
    )
    for what, names in seen.unreadable.items():
        more = f" and {len(names) - 10} more" if len(names) > 10 else ""
        ctx.log(f"{ctx.source}: the user may not read {what} of {', '.join(names[:10])}{more}")
    for what, reason in seen.refused.items():
        ctx.log(f"{ctx.source}: {what} is not taken: {reason}")
    ctx.log(f"{ctx.source}: {len(seen.vms)} VMs read, {summary(found)}")
    for line in found.changes[:MAX_LINES]:
        ctx.log(line)
    if len(found.changes) > MAX_LINES:
        ctx.log(f"… and {len(found.changes) - MAX_LINES} more: `mtv inventory diff {ctx.source}`")
    return found


def summary(found: Recorded) -> str:
    """Say how much changed since the moment before."""
    if found.before is None:
        return "for the first time"
    count = len(found.changes)
    since = f"{found.before.taken_at:%Y-%m-%d %H:%M:%S} UTC"
    return f"{count or 'no'} change{'' if count == 1 else 's'} since {since}"


def judge(ctx: InventoryContext) -> dict[str, Standing]:
    """Judge the VMs that changed, then every plan that names the source; return how plans stand, by content hash.

    Raises `PermanentError` naming the task `snapshot` when the source was never read.
    """
    judge_vms(ctx)
    judged = Judged(ctx)
    standings = {}
    for compiled in plans_of(ctx.settings, ctx.source):
        if (plan := compiled.plan) is None:
            continue
        standing = judged.standing(plan)
        standings[compiled.hash] = standing
        ctx.log(f"plan {plan.name}: {'Ready' if standing.is_ready else 'Not ready'}")
        for condition in standing.conditions:
            about = f" ({', '.join(condition.vms)})" if condition.vms else ""
            ctx.log(f"plan {plan.name}: {condition.category.value}: {condition.message}{about}")
    return standings


def plans_of(settings: Settings, source: str) -> Iterator[CompiledPlan]:
    """Yield the plans of the plans folder that name a source."""
    for compiled in compile_folder(settings.plans_folder, settings.compiled_folder):
        if any(source in wave.sources for wave in compiled.waves):
            yield compiled


def judge_vms(ctx: InventoryContext, *, names: Collection[str] | None = None, tell_concerns: bool = True) -> int:
    """Evaluate rules on the VMs that they, or rules, have changed since they were judged; return how many.

    All VMs of the newest inventory, or those of some `names`. Concerns that are new are logged, unless
    somebody else tells them.
    """
    moment = ctx.store.inventory_moment(ctx.source)
    if moment is None:
        raise PermanentError(
            f"no inventory of {ctx.source} has been taken", cure="clear the task snapshot", code="no-inventory"
        )
    conn_type = ctx.connections.get(ctx.source).conn_type
    rules = require_rules(ctx.settings.rules_folder, conn_type, ctx.settings.more_rules_folders, tell=ctx.log)
    known = ctx.store.judgements(ctx.source)
    vms = ctx.store.inventory(moment, kind=VM)
    wanted = vms if names is None else [vm for vm in vms if vm.name in names]
    stale = [
        vm
        for vm in wanted
        if (last := known.get(vm.key)) is None or (last.digest, last.rules_version) != (vm.digest, rules.version)
    ]
    answers = evaluate(rules, [vm.document["document"] for vm in stale])
    judged = {
        vm.key: Judgement(digest=vm.digest, rules_version=rules.version, concerns=tuple(said))
        for vm, said in zip(stale, answers, strict=True)
    }
    ctx.store.put_judgements(ctx.source, judged, gone=set(known) - {vm.key for vm in vms})
    ctx.log(f"{ctx.source}: {len(stale)} of {len(wanted)} VMs validated, the others have not changed")
    for vm in stale if tell_concerns else ():
        before = known[vm.key].concerns if vm.key in known else ()
        for concern in judged[vm.key].concerns:
            if concern not in before and concern.category is not Category.INFORMATION:
                ctx.log(f"{vm.name}: {concern.category.value}: {concern.label}")
    return len(stale)


@dataclass(frozen=True)
class _Source:
    """What is known of one source of a plan; `vms` by name, with what rules said of each."""

    vms: dict[str, list[tuple[SourceVm, tuple[Concern, ...]]]]

    @cached_property
    def paths(self) -> dict[str, str]:
        """Where VMs lie, by their names; of several of a name the first."""
        return {name: str(pairs[0][0].document.get("path") or "") for name, pairs in self.vms.items()}


class Judged:
    """Judges plans on what the store knows of their sources; sources and targets are read once."""

    def __init__(self, ctx: InventoryContext) -> None:
        self.ctx = ctx
        self._sources: dict[str, _Source | None] = {}
        self._targets: dict[tuple[str, str], TargetFacts] = {}

    def standing(self, plan: Plan) -> Standing:
        """Judge a plan and keep how it stands. VMs that are migrated already are no part of it any more."""
        return self.ctx.store.put_standing(plan.name, hash_of(plan), self._conditions(plan))

    def _conditions(self, plan: Plan) -> tuple[Condition, ...]:
        migrated = {row.vm_id for row in self.ctx.store.vms(plan.name) if row.phase is VmPhase.MIGRATED}
        said: list[Condition] = []
        unread: dict[str, list[str]] = defaultdict(list)
        used: dict[str, None] = {}
        for wave in plan.waves:
            found: dict[str, list[SourceVm]] = {}
            concerns: dict[str, list[Concern]] = {}
            judged: list[PlannedVm] = []
            others: dict[str, dict[str, str]] = {}
            for vm in wave.vms:
                if vm.id in migrated:
                    continue
                source_id = effective(plan, wave, vm).source
                used[source_id] = None
                known = self._source(source_id)
                if known is None:
                    unread[source_id].append(vm.id)
                    continue
                pairs = known.vms.get(vm.name, [])
                found[vm.id] = [seen for seen, _ in pairs]
                if not pairs:
                    others[vm.id] = known.paths
                concerns[vm.id] = accepted(plan, vm.id, [concern for _, answers in pairs for concern in answers])
                judged.append(vm)
            if judged:
                said += conditions(
                    plan,
                    wave.model_copy(update={"vms": tuple(judged)}),
                    found,
                    target=self._target(plan),
                    concerns=concerns,
                    service_account=self.ctx.settings.pod_service_account,
                    others=others,
                )
                alone = {vm_id: seen[0] for vm_id, seen in found.items() if len(seen) == 1}
                said += since_approval(self.ctx.store, plan.name, hash_of(plan), wave.name, alone)
        said += [sources.not_read(source_id, vms) for source_id, vms in unread.items()]
        said += sources.unverified(self._connections(used))
        said += unknown_acceptances(plan, self.ctx.settings.rules_folder, self.ctx.settings.more_rules_folders)
        return merged(accepted_conditions(plan, said))

    def _connections(self, ids: Iterable[str]) -> Iterator[Connection]:
        for conn_id in ids:
            try:
                yield self.ctx.connections.get(conn_id)
            except PermanentError as error:  # a source that was never read says so by itself
                self.ctx.log(str(error))

    def _source(self, source_id: str) -> _Source | None:
        if source_id not in self._sources:
            self._sources[source_id] = self._read(source_id)
        return self._sources[source_id]

    def _read(self, source_id: str) -> _Source | None:
        store = self.ctx.store
        moment = store.inventory_moment(source_id)
        if moment is None:
            return None
        judgements = store.judgements(source_id)
        vms: dict[str, list[tuple[SourceVm, tuple[Concern, ...]]]] = defaultdict(list)
        for one in store.inventory(moment, kind=VM):
            said = judgements[one.key].concerns if one.key in judgements else ()
            vms[one.name].append((msgspec.convert(one.document, SourceVm), said))
        return _Source(dict(vms))

    def _target(self, plan: Plan) -> TargetFacts:
        """Return the target's facts; those of one that does not answer now are unknown, and the plan says so."""
        key = (plan.target.connection, plan.target.namespace)
        if key not in self._targets:
            try:
                self._targets[key] = facts_of(self.ctx.connections, plan.target, self.ctx.open_cluster)
            except TemporaryError as error:
                self._targets[key] = TargetFacts.unknown(str(error))
        return self._targets[key]
