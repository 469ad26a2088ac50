"""Which name a Linux guest gives a network card, read from its own network configuration.

The source reports a card's MAC and addresses, seldom the name that the guest knows it by. Whatever keeps the address
keeps the name too: ifcfg files (Red Hat, SUSE wicked), NetworkManager keyfiles, netplan, systemd-networkd, ifupdown,
and the leases of dhclient. A bridge, bond or VLAN that holds the address stands for the one card below it. Pure: text
in, names out.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath

import msgspec

from mtv.model.conversion import ConvertNic

PATTERNS = (
    "/etc/sysconfig/network-scripts/ifcfg-*",
    "/etc/sysconfig/network/ifcfg-*",
    "/etc/NetworkManager/system-connections/*",
    "/etc/netplan/*.yaml",
    "/etc/netplan/*.yml",
    "/etc/systemd/network/*.network",
    "/etc/network/interfaces",
    "/etc/network/interfaces.d/*",
    "/var/lib/dhcp/*.leases",
    "/var/lib/dhclient/*.lease*",
    "/var/lib/NetworkManager/*.lease",
)
"""Files to read, as shell patterns."""

_NAME = re.compile(r"[A-Za-z0-9_.:-]{1,15}")
_NETPLAN_SECTIONS = ("ethernets:", "bridges:", "bonds:", "vlans:")
_MAC = re.compile(r"(?:[0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}")


class Interface(msgspec.Struct, frozen=True):
    """A name with the MACs and IP addresses that a file ties to it.

    `is_virtual` says that it is no card; `below` names what it is made of, `above` what is made of it.
    """

    name: str
    macs: frozenset[str] = frozenset()
    addresses: frozenset[str] = frozenset()
    is_virtual: bool = False
    below: frozenset[str] = frozenset()
    above: frozenset[str] = frozenset()


def names_of(files: Mapping[str, str], nics: Iterable[ConvertNic]) -> dict[str, str]:
    """MAC (lower case, colons) → name, for every card whose name is reported or found.

    A MAC in a file counts before an address; what two different names claim is left out rather than guessed.
    """
    interfaces = [found for path, text in sorted(files.items()) for found in interfaces_in(path, text)]
    names: dict[str, str] = {}
    for nic in nics:
        mac = mac_of(nic.mac)
        if nic.name:
            names[mac] = nic.name
            continue
        wanted = {address for text in nic.addresses if (address := _address(text))}
        by_mac = {found.name for found in interfaces if mac in found.macs}
        by_address = {found.name for found in interfaces if wanted & found.addresses}
        for candidates in (_cards(by_mac, interfaces), _cards(by_address, interfaces)):
            if len(candidates) == 1:
                names[mac] = next(iter(candidates))
                break
    twice = {name for name in names.values() if list(names.values()).count(name) > 1}
    return {mac: name for mac, name in names.items() if name not in twice and _NAME.fullmatch(name)}


def _cards(names: Iterable[str], interfaces: Iterable[Interface]) -> set[str]:
    """The cards that these names stand for: themselves, or what bridges, bonds and VLANs are made of."""
    below: dict[str, set[str]] = {}
    for one in interfaces:
        base, dot, _ = one.name.partition(".")
        if one.is_virtual or one.below or dot:
            below.setdefault(one.name, set()).update(one.below or ({base} if dot else ()))
        for name in one.above:
            below.setdefault(name, set()).add(one.name)
    cards, seen, left = set[str](), set[str](), list(names)
    while left:
        name = left.pop()
        if name in seen:
            continue
        seen.add(name)
        if name in below:
            left += below[name]
        else:
            cards.add(name)
    return cards


def mac_of(text: str) -> str:
    """A MAC in lower case with colons. Raises `ValueError` for anything else."""
    if not _MAC.fullmatch(text):
        raise ValueError(f"{text!r} is no MAC address")
    return text.lower().replace("-", ":")


def interfaces_in(path: str, text: str) -> list[Interface]:
    """What one configuration file says. A file that says nothing useful gives an empty list."""
    where = PurePosixPath(path)
    if where.name.startswith("ifcfg-"):
        found = [_ifcfg(where.name.removeprefix("ifcfg-"), text)]
    elif "NetworkManager/system-connections" in path:
        found = [_ini(text, name_keys=("interface-name",), mac_keys=("mac-address",), section="connection")]
    elif where.suffix == ".network":
        found = [_ini(text, name_keys=("Name",), mac_keys=("MACAddress", "PermanentMACAddress"), section="Match")]
    elif where.suffix in (".yaml", ".yml"):
        found = _netplan(text)
    elif "lease" in where.name:
        found = _leases(text)
    else:
        found = _ifupdown(text)
    return [interface for interface in found if _NAME.fullmatch(interface.name) and interface.name != "lo"]


def _ifcfg(suffix: str, text: str) -> Interface:
    values = {
        key.strip(): value.strip().strip("\"'")
        for key, _, value in (line.partition("=") for line in text.splitlines() if "=" in line and line[:1] != "#")
    }
    addresses = [value for key, value in values.items() if re.match(r"IPADDR|IPV6ADDR", key)]
    macs = [value for key, value in values.items() if key in ("HWADDR", "LLADDR")]
    above = [values[key] for key in ("BRIDGE", "MASTER", "TEAM_MASTER", "OVS_BRIDGE") if key in values]
    below = [value for key, value in values.items() if re.match(r"BRIDGE_PORTS|BONDING_SLAVE|ETHERDEVICE|PHYSDEV", key)]
    kind = (values.get("TYPE") or values.get("DEVICETYPE") or "Ethernet").lower()
    switches = ("BRIDGE", "VLAN", "BONDING_MASTER")
    return Interface(
        (values.get("DEVICE") or suffix).split(":")[0],
        _macs(macs),
        _addresses(addresses),
        is_virtual=kind != "ethernet" or any(values.get(key, "").lower() == "yes" for key in switches),
        below=_names(below),
        above=_names(name for name in above if name.lower() not in ("yes", "no")),
    )


def _ini(text: str, *, name_keys: tuple[str, ...], mac_keys: tuple[str, ...], section: str) -> Interface:
    name, here, kind = "", "", ""
    macs, addresses, above, below = list[str](), list[str](), list[str](), list[str]()
    for line in text.splitlines():
        if line.startswith("["):
            here = line.strip().strip("[]")
            continue
        key, _, value = (part.strip() for part in line.partition("="))
        if key in name_keys and here == section:
            name = value
        elif key in mac_keys:
            macs.append(value)
        elif key == "type" and here == "connection":
            kind = value
        elif key in ("master", "controller", "Bridge", "Bond", "VLAN") and here in ("connection", "Network"):
            above.append(value)
        elif key == "parent" and here == "vlan":
            below.append(value)
        elif re.fullmatch(r"(?i)address(?:es)?\d*", key):
            addresses.extend(re.split(r"[;,\s]+", value))
    return Interface(
        name,
        _macs(macs),
        _addresses(addresses),
        is_virtual=kind not in ("", "ethernet", "802-3-ethernet", "wifi"),
        below=_names(below),
        above=_names(above),
    )


def _netplan(text: str) -> list[Interface]:
    """Netplan's YAML by its indentation: under each section a level of names, each with its settings below.

    A name that goes with `match:` is netplan's own, unless `set-name:` gives it to the card.
    """
    found: dict[str, list[str]] = {}
    virtual: set[str] = set()
    section, level, name, kind = -1, -1, "", ""
    for line in text.splitlines():
        bare = line.split(" #")[0].rstrip()
        if not bare.strip() or bare.lstrip().startswith("#"):
            continue
        indent = len(bare) - len(bare.lstrip())
        if bare.strip() in _NETPLAN_SECTIONS:
            section, level, kind = indent, -1, bare.strip()
        elif section < 0 or indent <= section:
            section = -1
        elif level in (-1, indent):
            level, name = indent, bare.strip().rstrip(":").strip("\"'")
            found[name] = []
            if kind != "ethernets:":
                virtual.add(name)
        elif name:
            found[name].append(bare.strip())
    return [_netplan_interface(name, lines, is_virtual=name in virtual) for name, lines in found.items()]


def _netplan_interface(name: str, lines: list[str], *, is_virtual: bool) -> Interface:
    renamed = [line.split(":", 1)[1].strip().strip("\"'") for line in lines if line.startswith("set-name:")]
    if any(line.startswith("match:") for line in lines):
        name = ""
    macs = [mac for line in lines if line.startswith("macaddress:") for mac in _MAC.findall(line)]
    below, key = list[str](), ""
    for line in lines:
        if not line.startswith("- "):
            key = line.partition(":")[0]
        if key in ("interfaces", "link"):
            below += re.split(r"[\s\[\],\"']+", line.removeprefix(f"{key}:"))
    words = [word for line in lines for word in re.split(r"[\s\[\],\"']+", line)]
    return Interface(
        renamed[0] if renamed else name,
        _macs(macs),
        _addresses(word for word in words if "/" in word),
        is_virtual=is_virtual,
        below=_names(below),
    )


def _leases(text: str) -> list[Interface]:
    found = []
    for block in re.findall(r"lease\s*\{(.*?)\n\}", text, flags=re.DOTALL):
        name = re.search(r'interface\s+"([^"]+)"', block)
        address = re.search(r"fixed-address6?\s+([^;]+);", block)
        if name and address:
            found.append(Interface(name[1], frozenset(), _addresses([address[1]])))
    return found


def _ifupdown(text: str) -> list[Interface]:
    found: list[tuple[str, dict[str, list[str]]]] = []
    for line in text.splitlines():
        words = line.split()
        if not words:
            continue
        if words[0] == "iface" and len(words) > 1:
            found.append((words[1].split(":")[0], {}))
        elif found:
            # Options of bridges and bonds are written with underscores or with hyphens.
            found[-1][1].setdefault(words[0].replace("_", "-"), []).extend(words[1:])

    def told(options: Mapping[str, list[str]], *keys: str) -> list[str]:
        return [word for key in keys for word in options.get(key, ())]

    return [
        Interface(
            name,
            _macs(told(options, "hwaddress", "hwaddr")),
            _addresses(told(options, "address")),
            is_virtual="bridge-ports" in options or "bond-slaves" in options,
            below=_names(told(options, "bridge-ports", "bond-slaves", "slaves", "vlan-raw-device")),
            above=_names(told(options, "bond-master")),
        )
        for name, options in found
    ]


def _names(values: Iterable[str]) -> frozenset[str]:
    words = (word for value in values for word in value.split())
    return frozenset(word for word in words if _NAME.fullmatch(word) and word not in ("none", "all", "-"))


def _macs(values: Iterable[str]) -> frozenset[str]:
    return frozenset(mac_of(value) for value in values if _MAC.fullmatch(value))


def _addresses(values: Iterable[str]) -> frozenset[str]:
    return frozenset(address for value in values if (address := _address(value)))


def _address(text: str) -> str:
    """An address without its prefix length, in one spelling; empty for what is none."""
    try:
        return str(ipaddress.ip_address(text.split("/")[0].strip()))
    except ValueError:
        return ""
