"""What `mtv plan show` says of a plan in words: its maps and limits, and the options that a VM does not leave alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from mtv.model.plan import BootProof, EffectiveVm, NetworkTarget, Plan, StorageTarget, Wave
from mtv.model.text import count_of
from mtv.reporting import words
from mtv.store import Approval
from mtv.store.runs import hash_of

_IN_COLUMNS = ("id", "name", "source", "target_name", "type", "target_power_state", "on_failure", "boot_proof")


def about_plan(plan: Plan) -> Iterator[str]:
    """Yield a line for each map entry, limit and accepted concern of the plan."""
    for source, network in plan.network_map.items():
        yield f"network {source} → {_network(network)}"
    for source, storage in plan.storage_map.items():
        yield f"storage {source} → {_storage(storage)}"
    if plan.bandwidth.limit != "off" or plan.bandwidth.windows:
        spans = [f"{window.limit} from {window.start} to {window.end}" for window in plan.bandwidth.windows]
        zone = f" ({plan.bandwidth.timezone})" if spans else ""
        yield f"bandwidth of a VM: {'; '.join([*spans, plan.bandwidth.limit])}{zone}"
    for name, scripts in plan.scripts.items():
        yield f"scripts {name}: {', '.join(scripts)}"
    for entry in plan.accept_concerns:
        of = f" of {', '.join(entry.vms)}" if entry.vms else ""
        yield f"accepted: {entry.id}{of} by {entry.by}: {entry.reason}"


def chosen(vm: EffectiveVm) -> list[str]:
    """Return the options of a VM that differ from their defaults, beside those that have a column of their own."""
    found = []
    for name, field in EffectiveVm.model_fields.items():
        value = getattr(vm, name)
        if name not in _IN_COLUMNS and value != field.default:
            found.append(name if value is True else f"no {name}" if value is False else f"{name}={value}")
    proof = BootProof()
    if vm.boot_proof.timeout_s != proof.timeout_s:
        found.append(f"boot_proof.timeout_s={vm.boot_proof.timeout_s}")
    if vm.boot_proof.throw_away:
        found.append("boot_proof.throw_away")
    return found


def approved_words(plan: Plan, wave: Wave, approvals: Mapping[str, Approval]) -> Iterator[str]:
    """Yield who approved a wave and when, and what of it the approval does not cover."""
    if not approvals:
        return
    first = next(iter(approvals.values()))
    yield f"approved by {first.by} {words.instant(first.approved_at)}, {count_of(len(approvals), 'VM')} pinned:"
    for vm_id, approval in approvals.items():
        yield f"  {vm_id} as {approval.fingerprint[:16]}"
    if first.plan_hash != hash_of(plan):
        yield "  the plan has changed since"
    missing = [vm.id for vm in wave.vms if vm.id not in approvals]
    if missing:
        yield f"  not approved: {', '.join(missing)}"


def _network(target: NetworkTarget) -> str:
    return target.name if target.type == "multus" else {"pod": "the pod network", "ignored": "nowhere"}[target.type]


def _storage(target: StorageTarget) -> str:
    modes = ", ".join(mode for mode in (target.volume_mode, target.access_mode) if mode)
    return f"{target.storage_class or 'the default class'}{f' ({modes})' if modes else ''}"
