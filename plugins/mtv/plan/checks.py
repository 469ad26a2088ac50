"""What no single field can tell: names that clash, waves that wait in a ring, VMs that come from nowhere.

Works on the raw values, so that these faults are found together with those the model finds.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

from mtv.plan.acceptances import check_acceptances
from mtv.plan.assemble import Draft, Raw
from mtv.plan.bandwidth import check_bandwidth, check_text, zone_of
from mtv.plan.guest_options import check_guest_options
from mtv.plan.names import RESERVED, dns_label
from mtv.plan.parts import check_part_names
from mtv.plan.problems import did_you_mean

_NETWORK_NAME = re.compile(r"([a-z0-9]([a-z0-9-]*[a-z0-9])?/)?[a-z0-9]([a-z0-9.-]*[a-z0-9])?")
_LOCAL_TIME = "%Y-%m-%d %H:%M"


def check(draft: Draft) -> None:
    """Add every fault that lies between fields."""
    if not draft.raw:
        return
    name = _text(draft.raw.get("name"))
    if name in RESERVED:
        draft.problem(("name",), f"the plan name {name} is reserved", "choose another name")
    if not draft.waves and not draft.problems:
        draft.problem((), "the plan has no VMs", "add `waves:` to the YAML or rows to the CSV")
    _check_maps(draft)
    _check_waves(draft)
    _check_vms(draft)
    check_guest_options(draft)
    check_bandwidth(draft)
    check_acceptances(draft)


def _check_maps(draft: Draft) -> None:
    for key, entry in _mapping(draft.raw.get("network_map")).items():
        entry = _mapping(entry)
        name, kind = entry.get("name"), _text(entry.get("type", "pod"))
        loc = ("network_map", key, "name")
        if kind == "multus" and not name:
            draft.problem(loc[:2], f"network {key} goes to multus without a name", "add `name: namespace/network`")
        elif kind in {"pod", "ignored"} and name:
            draft.problem(loc, f"network {key} goes to {kind}, which has no name", "remove `name`, or use type multus")
        elif kind == "multus" and isinstance(name, str) and not _NETWORK_NAME.fullmatch(name):
            draft.problem(loc, f"{name!r} names no NetworkAttachmentDefinition", "write namespace/name")


def _check_waves(draft: Draft) -> None:
    names = [wave["name"] for wave in draft.waves]
    after: dict[str, list[str]] = {}
    for index, wave in enumerate(draft.waves):
        if wave["name"] in RESERVED:
            draft.problem(("waves", index, "name"), f"the wave name {wave['name']} is reserved", "choose another name")
        if not wave["vms"] and not draft.problems:
            draft.problem(("waves", index), f"wave {wave['name']} has no VMs", "add `vms:`, or rows in the CSV")
        starts = wave.get("start_after", [])
        after[wave["name"]] = []
        for position, other in enumerate(starts if isinstance(starts, list) else []):
            loc = ("waves", index, "start_after", position)
            if other not in names:
                draft.problem(loc, f"there is no wave {other}", did_you_mean(str(other), names))
            else:
                after[wave["name"]].append(other)
        _check_window(draft, index, _mapping(wave.get("window")))
    _check_rings(draft, after)
    check_part_names(draft)


def _check_rings(draft: Draft, after: dict[str, list[str]]) -> None:
    """Report each wave that, followed through `start_after`, waits for itself."""
    for index, start in enumerate(after):
        reached: set[str] = set()
        edge = set(after[start])
        while edge - reached:
            reached |= edge
            edge = {name for wave in edge for name in after[wave]}
        if start in reached:
            draft.problem(
                ("waves", index, "start_after"), f"wave {start} waits for itself", "take one `start_after` out"
            )


def _check_window(draft: Draft, index: int, window: Raw) -> None:
    moments: dict[str, datetime] = {}
    for field in ("start", "end"):
        text = window.get(field)
        if isinstance(text, str):
            try:
                # Local time of the window's own zone; only the order of the two is judged here.
                moments[field] = datetime.strptime(text, _LOCAL_TIME)
            except ValueError:
                loc = ("waves", index, "window", field)
                draft.problem(loc, f"{field} {text!r} is not a moment", "write 2026-12-05 22:00")
    if len(moments) == 2 and moments["end"] <= moments["start"]:
        draft.problem(("waves", index, "window", "end"), "the window ends before it starts", "mend start or end")
    check_text(draft, ("waves", index, "window", "timezone"), window.get("timezone"), zone_of)


def _check_vms(draft: Draft) -> None:
    plan_source = _text(_mapping(draft.raw.get("source")).get("connection"))
    default_source = _text(_mapping(draft.raw.get("defaults")).get("source")) or plan_source
    by_name: dict[tuple[str, str], tuple[int, int]] = {}
    by_id: dict[str, tuple[int, int]] = {}
    by_target: dict[str, tuple[int, int]] = {}
    for wave_index, wave in enumerate(draft.waves):
        wave_source = _text(_mapping(wave.get("defaults")).get("source")) or default_source
        for vm_index, vm in enumerate(wave["vms"]):
            name, here = _text(vm.get("name")), (wave_index, vm_index)
            if not name:
                continue
            source = _text(vm.get("source")) or wave_source
            network = _text(vm.get("network"))
            if network and not _NETWORK_NAME.fullmatch(network):
                message = f"network {network!r} is no network of the target"
                _vm_problem(draft, here, "network", message, "use pod, ignored or namespace/name")
            if not source and "source" not in draft.raw:
                _vm_problem(draft, here, "source", f"nothing says where VM {name} comes from", "add a source")
            first = by_name.setdefault((source, name), here)
            if first is not here:
                _vm_problem(
                    draft, here, "name", f"VM {name} stands in the plan already, {_at(draft, first)}", "keep one"
                )
                continue
            vm_id = _text(vm.get("id")) or dns_label(name)
            first = by_id.setdefault(vm_id, here)
            if first is not here:
                other = draft.waves[first[0]]["vms"][first[1]]["name"]
                _vm_problem(
                    draft,
                    here,
                    "id" if vm_id != dns_label(name) else "name",
                    f"VM {name} has the id {vm_id}, as VM {other} has {_at(draft, first)}",
                    "give one of them an `id` and a `target_name` of its own",
                )
                continue
            target = _text(vm.get("target_name")) or dns_label(name)
            first = by_target.setdefault(target, here)
            if first is not here:
                other = draft.waves[first[0]]["vms"][first[1]]["name"]
                _vm_problem(
                    draft,
                    here,
                    "target_name" if vm.get("target_name") else "name",
                    f"VM {name} becomes {target} on the target, as VM {other} does {_at(draft, first)}",
                    "give one of them another `target_name`",
                )


def _vm_problem(draft: Draft, vm: tuple[int, int], field: str, message: str, cure: str) -> None:
    draft.problem(("waves", vm[0], "vms", vm[1], field), message, cure)


def _at(draft: Draft, vm: tuple[int, int]) -> str:
    file, line, _ = draft.origins.where(("waves", vm[0], "vms", vm[1]))
    return f"in {file} line {line}"


def _mapping(value: Any) -> Raw:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
