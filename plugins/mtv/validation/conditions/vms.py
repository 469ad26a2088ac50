"""The VM itself: it is there, once, in a state that can be moved, and gets a name of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mtv.model.condition import Condition
from mtv.model.near_names import nearest
from mtv.model.plan import Plan
from mtv.model.source import PowerState, SourceVm
from mtv.validation.conditions.case import Case, critical, warning

_TOOLS_RUN = ("guestToolsRunning", "guestToolsExecutingScripts")
"""The latter while they start or run a script; a guest is then asked again until they listen."""


_NOT_THERE = "The source has no VM of this name, or its user may not see it. Mend the name in the plan."
_SUGGESTED = 20
"""More missing VMs of a wave are no slips of the pen, and to look for a near name costs a look at all names."""


def near_names(cases: Iterable[Case], others: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Return words about the VM that may be meant, by id of those that are not there; of the first of them only.

    `others` are the VMs that its source holds, name to path, by id of the VM that is missing. One that the plan names
    is meant by that name.
    """
    missing = [case for case in cases if not case.found and others.get(case.vm.id)][:_SUGGESTED]
    named = {vm.name for case in missing[:1] for wave in case.plan.waves for vm in wave.vms}
    near: dict[str, str] = {}
    for case in missing:
        known = {name: path for name, path in others[case.vm.id].items() if name not in named}
        if words := _near(case.vm.name, known):
            near[case.vm.id] = words
    return near


def _near(name: str, known: Mapping[str, str]) -> str:
    bare = name.rpartition("/")[2]  # where it lies is no part of a VM's name
    found = bare if bare in known else nearest(name, known) or nearest(bare, known)
    if found is None:
        return ""
    at = f" at {known[found]}" if known[found] else ""
    return f"There is {found!r}{at}, which may be meant to be it."


def existence(case: Case, near: str = "") -> Iterable[Condition]:
    """The source holds exactly one VM of the name; `near` says which other may be meant where it holds none."""
    name, vms = case.vm.name, (case.vm.id,)
    if not case.found:
        yield critical(
            "VMNotFound",
            "plan.vm.not_found",
            "NotFound",
            f"{name} is not in the inventory",
            " ".join(filter(None, (near, _NOT_THERE))),
            vms=vms,
        )
    if len(case.found) > 1:
        where = ", ".join(f"{seen.document.get('path') or seen.name} ({seen.id})" for seen in case.found)
        yield critical(
            "VMRefNotValid",
            "plan.vm.ambiguous",
            "Ambiguous",
            f"The source has {len(case.found)} VMs called {name}: {where}",
            "Rename all but one on the source: the plan cannot tell which of them is meant.",
            vms=vms,
        )


def target_name(case: Case) -> Iterable[Condition]:
    """The name on the target belongs to this VM alone, and is the source's."""
    users = _users(case.plan, case.target_name)
    if len(users) > 1:
        yield critical(
            "DuplicateVM",
            "plan.target_name.duplicate",
            "NotUnique",
            f"{case.vm.name} and another VM would both be called {case.target_name!r}",
            f"The plan gives this name to {', '.join(users)}. Set target_name of all but one.",
            vms=(case.vm.id,),
        )
    if case.vm.target_name is None and case.target_name != case.vm.name:
        yield warning(
            "TargetNameNotValid",
            "plan.target_name.changed",
            "NotValid",
            f"{case.vm.name} will be called {case.target_name} on the target",
            "Its own name is no DNS label. Set target_name to choose another.",
            vms=(case.vm.id,),
        )


def kind(case: Case, seen: SourceVm) -> Iterable[Condition]:
    """What was found can be moved: no template, connected, not suspended, its host and its tools at work."""
    vms = (case.vm.id,)
    if seen.is_template:
        yield critical(
            "VMMigrationTypeUnsupported",
            "plan.vm.template",
            "NotSupported",
            f"{seen.name} is a template",
            "A template cannot run, so its migration could not be proven. Deploy a VM from it, or leave it out.",
            vms=vms,
        )
    state = seen.document.get("connectionState", "connected")
    if state != "connected":
        yield critical(
            "VMNotConnected",
            "plan.vm.not_connected",
            "NotValid",
            f"{seen.name} is {state or 'in an unknown connection state'}",
            "The source has lost touch with the VM's host or files, so its disks cannot be read.",
            vms=vms,
        )
    if seen.power is PowerState.SUSPENDED:
        yield critical(
            "VMPowerStateUnsupported",
            "plan.vm.suspended",
            "NotSupported",
            f"{seen.name} is suspended",
            "What its memory holds would be lost. Resume it, or shut it down.",
            vms=vms,
        )
    host = seen.document.get("host")
    if isinstance(host, dict) and host.get("inMaintenance") is True:
        yield warning(
            "HostNotReady",
            "plan.vm.host_in_maintenance",
            "InMaintenanceMode",
            f"Host {host.get('name') or host.get('id') or ''} is in maintenance mode",
            "Its VMs cannot be powered on there again. Migrate them before or after the maintenance.",
            vms=vms,
        )
    yield from _tools(case, seen)
    if seen.document.get("ovaSource", "VMware") != "VMware":
        yield warning(
            "UnsupportedOVFExportSource",
            "plan.vm.ovf_writer",
            "NotValid",
            f"The appliance was written by {seen.document['ovaSource'] or 'an unknown product'}, not by VMware",
            "Appliances of other products are read as far as they follow the standard; test this one first.",
            vms=vms,
        )


def _tools(case: Case, seen: SourceVm) -> Iterable[Condition]:
    """A guest that cannot be asked to shut down is powered off: no reason to refuse it, but it should be known."""
    running = seen.document.get("toolsRunningStatus")
    if seen.power is PowerState.ON and running is not None and running not in _TOOLS_RUN:
        yield warning(
            "GuestToolsIssue",
            "plan.vm.tools_not_running",
            "NotValid",
            "The guest's tools do not run, so it cannot be asked to shut down",
            "It would be powered off, as by pulling its plug. Start its tools, or shut it down before the wave.",
            vms=(case.vm.id,),
        )


def _users(plan: Plan, name: str) -> list[str]:
    return [
        f"{vm.name} (wave {wave.name})" for wave in plan.waves for vm in wave.vms if (vm.target_name or vm.id) == name
    ]
