"""Static addresses of the guest, and whether they can work where its cards go."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from mtv.model.condition import Condition
from mtv.model.source import PowerState, SourceVm
from mtv.validation.conditions.case import Case, rows_of, warning


def of_guest(case: Case, seen: SourceVm) -> Iterable[Condition]:
    """Whether the addresses to be kept are known at all."""
    rows = seen.document.get("guestNetworks")
    if case.keeps_addresses and isinstance(rows, list) and not rows and seen.power is PowerState.ON:
        yield warning(
            "VMMissingGuestIPs",
            "plan.network.no_guest_addresses",
            "MissingGuestInformation",
            "The guest's addresses are not known, so static ones cannot be kept",
            "Let its tools run once before the wave, or set preserve_static_ips: false.",
            vms=(case.vm.id,),
        )


def guest_addresses(seen: SourceVm) -> Iterator[tuple[str, str]]:
    """Yield the addresses that the guest has, each with its card's MAC: vSphere tells them in a list, oVirt by card."""
    for row in rows_of(seen, "guestNetworks"):
        yield str(row.get("mac", "")), str(row.get("ip", ""))
    for card in rows_of(seen, "nics"):
        told = card.get("ipAddress")
        yield from ((str(card.get("mac", "")), str(ip)) for ip in (told if isinstance(told, list) else ()))


def on_pod_network(case: Case, seen: SourceVm) -> dict[str, str]:
    """Return the static addresses, with their cards' MAC, of the cards that go to the pod network."""
    if not case.keeps_addresses:
        return {}
    macs = {nic.mac for nic in seen.nics if (target := case.network(nic)) is not None and target.type == "pod"}
    static = [row for row in rows_of(seen, "guestNetworks") if str(row.get("origin", "")).lower() == "manual"]
    return {str(row["ip"]): str(row["mac"]) for row in static if row.get("mac") in macs and row.get("ip")}
