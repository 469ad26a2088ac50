"""The guest's addresses as the source's tools told them, in the form in which a conversion keeps them. Pure."""

from __future__ import annotations

import ipaddress
from typing import Any

from mtv.model.conversion import ConvertNic
from mtv.model.source import SourceVm

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def nics_of(vm: SourceVm) -> tuple[ConvertNic, ...]:
    """Return the VM's own cards that have addresses to be kept: IPv4 before IPv6, link-local ones left out.

    Of a Windows guest only those that somebody set by hand: the others come from DHCP again. Of a Linux guest all,
    because they only serve to tell which card is which.
    """
    own = {nic.mac for nic in vm.nics if nic.mac}
    windows = is_windows(vm)
    by_mac: dict[str, list[dict[str, Any]]] = {}
    for row in _rows(vm, "guestNetworks"):
        mac = str(row.get("mac", "")).lower()
        if mac in own and (not windows or str(row.get("origin", "")).lower() == "manual"):
            by_mac.setdefault(mac, []).append(row)
    found = (_nic(vm, mac, rows, windows=windows) for mac, rows in by_mac.items())
    return tuple(nic for nic in found if nic.addresses)


def is_windows(vm: SourceVm) -> bool:
    """Whether the source calls the guest a Windows."""
    names = (vm.guest_os, vm.document.get("guestId"), vm.document.get("guestName"))
    return any(str(name or "").lower().startswith(("win", "microsoft windows")) for name in names)


def _nic(vm: SourceVm, mac: str, rows: list[dict[str, Any]], *, windows: bool) -> ConvertNic:
    interfaces = []
    for row in rows:
        address = _address(row.get("ip"))
        if address is None or address.is_link_local or address.is_unspecified:
            continue
        prefix = row.get("prefix")
        if isinstance(prefix, int) and 0 < prefix <= address.max_prefixlen:
            interfaces.append((address, prefix))
    interfaces.sort(key=lambda item: item[0].version)  # stable: within a family the guest's own order
    families = dict.fromkeys(address.version for address, _ in interfaces)
    devices = {str(row.get("device", "")) for row in rows}
    gateways = (_gateway(vm, devices, family, windows=windows) for family in families)
    servers = (_address(text) for row in rows for text in row.get("dns") or ())
    return ConvertNic(
        mac=mac,
        addresses=tuple(dict.fromkeys(f"{address}/{prefix}" for address, prefix in interfaces)),
        gateways=tuple(gateway for gateway in gateways if gateway),
        dns=tuple(dict.fromkeys(str(server) for server in servers if server is not None)),
    )


def _gateway(vm: SourceVm, devices: set[str], family: int, *, windows: bool) -> str:
    """Return the gateway of the default route of a family, or "". A link-local one only if Windows has no other."""
    found = []
    for row in _rows(vm, "guestIpStacks"):
        network, gateway = _address(row.get("network")), _address(row.get("gateway"))
        if network is None or gateway is None or network.version != family or gateway.version != family:
            continue
        if network.is_unspecified and row.get("prefix") == 0 and str(row.get("device", "")) in devices:
            found.append(gateway)
    chosen = [gateway for gateway in found if not gateway.is_link_local] or (found if windows else [])
    return str(chosen[0]) if chosen else ""


def _address(text: Any) -> _Address | None:
    try:
        return ipaddress.ip_address(str(text).partition("%")[0])
    except ValueError:
        return None  # tools report what a guest says, and a guest may say anything


def _rows(vm: SourceVm, table: str) -> list[dict[str, Any]]:
    rows = vm.document.get(table)
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
