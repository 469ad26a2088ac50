"""What VMware Tools tell about a running guest: addresses, routes, file systems."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

_DRIVE = re.compile(r"([A-Za-z]):[\\/]?")


def guest_networks(nics: Iterable[Any] | None) -> list[dict[str, Any]]:
    """Return one row per address: device, MAC (lower case), ip, prefix, origin (manual, dhcp, …), DNS servers."""
    rows: list[dict[str, Any]] = []
    for number, nic in enumerate(nics or ()):
        dns = list(nic.dnsConfig.ipAddress or ()) if nic.dnsConfig is not None else []
        addresses = (nic.ipConfig.ipAddress or ()) if nic.ipConfig is not None else ()
        rows += [
            {
                "device": str(number),
                "deviceConfigId": nic.deviceConfigId,
                "network": str(nic.network or ""),
                "mac": str(nic.macAddress or "").lower(),
                "ip": str(address.ipAddress or ""),
                "prefix": int(address.prefixLength or 0),
                "origin": str(address.origin or ""),
                "dns": dns,
            }
            for address in addresses
        ]
    return rows


def guest_ip_stacks(stacks: Iterable[Any] | None) -> list[dict[str, Any]]:
    """Return one row per route: device, destination network and prefix, gateway, DNS servers."""
    rows: list[dict[str, Any]] = []
    for stack in stacks or ():
        dns = list(stack.dnsConfig.ipAddress or ()) if stack.dnsConfig is not None else []
        routes = (stack.ipRouteConfig.ipRoute or ()) if stack.ipRouteConfig is not None else ()
        rows += [
            {
                "device": str(route.gateway.device or "") if route.gateway is not None else "",
                "gateway": str(route.gateway.ipAddress or "") if route.gateway is not None else "",
                "network": str(route.network or ""),
                "prefix": int(route.prefixLength or 0),
                "dns": dns,
            }
            for route in routes
        ]
    return rows


def guest_disks(disks: Iterable[Any] | None) -> list[dict[str, Any]]:
    """Return one row per file system: path in the guest, capacity and free space in bytes, key of the virtual disk."""
    return [
        {
            "key": next((mapping.key for mapping in disk.mappings or ()), 0),
            "diskPath": str(disk.diskPath or ""),
            "capacity": int(disk.capacity or 0),
            "freeSpace": int(disk.freeSpace or 0),
            "filesystemType": str(disk.filesystemType or ""),
        }
        for disk in disks or ()
    ]


def with_drive_letters(disks: list[dict[str, Any]], file_systems: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Give each disk the drive letter of the first Windows file system that lies on it, "" without one."""
    letters: dict[int, str] = {}
    for row in file_systems:
        match = _DRIVE.fullmatch(row["diskPath"])
        if match and row["key"]:
            letters.setdefault(row["key"], match[1].lower())
    return [{**disk, "winDriveLetter": letters.get(disk["key"], "")} for disk in disks]


def guest_apps(text: str) -> list[dict[str, str]]:
    """Return name and version of what the tools' application discovery lists; nothing where it says nothing."""
    try:
        told = json.loads(text) if text else {}
    except ValueError:
        return []
    rows = told.get("applications") if isinstance(told, dict) else None
    return [
        {"name": str(row.get("a", "")), "version": str(row.get("v", ""))}
        for row in (rows if isinstance(rows, list) else ())
        if isinstance(row, dict)
    ]
