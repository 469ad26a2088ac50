"""What changed between two moments of an inventory: `vm web-1: memory 4096 → 8192 MiB; disk 2000 added (20 GiB)`.

Values that a running guest or its host move all the time (free space, ballooned memory, change ids) are kept in the
inventory but not told: nobody decides anything on them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from mtv.inventory.drift import size_in_words
from mtv.model.text import count_of
from mtv.store import InventoryChange

Document = Mapping[str, Any]

_MAX_TEXT = 60
_FACTS: tuple[tuple[str, str], ...] = (
    ("name", "name"),
    ("uuid", "UUID"),
    ("power", "power"),
    ("cpu_count", "CPUs"),
    ("cores_per_socket", "cores per socket"),
    ("firmware", "firmware"),
    ("secure_boot", "secure boot"),
    ("tpm", "TPM"),
    ("guest_os", "guest"),
    ("is_template", "template"),
    ("host", "host"),
)
_DISK_FACTS = tuple((name, name) for name in ("index", "bus", "storage", "shared", "serial"))
_NIC_FACTS = (("network", "network"), ("mac", "MAC address"), ("model", "model"), ("connected", "connected"))

# Attributes of documents that the facts above tell already, under whatever name a source has for them.
_TOLD = frozenset(
    {"id", "name", "uuid", "powerState", "firmware", "secureBoot", "tpmEnabled", "isTemplate", "host", "cpuCount"}
    | {"coresPerSocket", "cpuSockets", "cpuCores", "memoryMB", "memory", "memoryQuantity", "guestName"}
    | {"guestNameFromVmwareTools", "nics", "controllers", "devices", "networks", "hostID"}
)
_TOLD_OF_DISKS = frozenset(
    {
        "id",
        "key",
        "capacity",
        "size",
        "provisionedSize",
        "bus",
        "datastore",
        "storageDomain",
        "shared",
        "serial",
        "base",
    }
)
_MEASURED = frozenset(
    {"storageUsed", "balloonedMemory", "freeSpace", "free", "changeId", "actualSize", "used", "available"}
    | {"populatedSize", "updated", "progress"}
)
_ROWS_OF_DISKS = ("disks", "diskAttachments", "volumes")
_KINDS = {
    "data_centers": "datacenter",
    "clusters": "cluster",
    "hosts": "host",
    "networks": "network",
    "storage_domains": "datastore",
}
"""What `unreadable` calls the lists of an oVirt engine, to the kind of the things in them."""
_ROW_KEYS = ("id", "key", "diskPath", "path", "device", "name", "mac")


def in_words(change: InventoryChange) -> str:
    """Return one line about an object that came, went or changed; "" when only measured values moved."""
    one = change.now or change.before
    if one is None:
        return ""
    who = f"{change.kind} {one.name or change.key}"
    if change.before is None:
        return f"{who} is new{_size(one.document) if change.kind == 'vm' else ''}"
    if change.now is None:
        return f"{who} is gone{_size(one.document) if change.kind == 'vm' else ''}"
    before, now = change.before.document, change.now.document
    phrases = vm_changes(before, now) if change.kind == "vm" else list(_attributes(before, now, "", frozenset({"id"})))
    return f"{who}: {'; '.join(phrases)}" if phrases else ""


def kinds_out_of_sight(changes: Iterable[InventoryChange]) -> set[str]:
    """Return the kinds of things that the user could list at one of two moments only: none of them came or went."""
    found: set[str] = set()
    for change in changes:
        if change.kind == "vm" and change.before is not None and change.now is not None:
            a, b = (_unreadable(side.document.get("document") or {}) for side in (change.before, change.now))
            found |= {_KINDS[name] for name in a ^ b if name in _KINDS}
    return found


def vm_changes(before: Document, now: Document) -> list[str]:
    """Return one phrase per difference of a VM (`SourceVm` as JSON)."""
    old, new = before.get("document") or {}, now.get("document") or {}
    if _unreadable(old) != _unreadable(new):
        before, now = _both_told(before, now), _both_told(now, before)
    phrases = list(_facts(_FACTS, before, now))
    if before["memory_bytes"] != now["memory_bytes"]:
        phrases.insert(0, f"memory {before['memory_bytes'] >> 20} → {now['memory_bytes'] >> 20} MiB")
    hidden = _hidden(old, new)
    if not hidden.intersection(_ROWS_OF_DISKS):
        phrases += _rows("disk", _by("id", before["disks"]), _by("id", now["disks"]), _disk_about, _disk_changes)
    if "nics" not in hidden:
        phrases += _rows("network card", _cards(before), _cards(now), _nic_about, lambda a, b: _facts(_NIC_FACTS, a, b))
    for table in _ROWS_OF_DISKS:
        a, b = _by_any_key(old.get(table)), _by_any_key(new.get(table))
        for key in a:
            if key in b:
                phrases += (f"disk {key}: {text}" for text in _attributes(a[key], b[key], "", _TOLD_OF_DISKS))
    phrases += _attributes(old, new, "", {*_TOLD, *_ROWS_OF_DISKS, "unreadable", *hidden})
    phrases += _readable(old, new)
    return phrases


def _hidden(old: Document, new: Document) -> set[str]:
    """Return the attributes that only one of the documents has because the user could not read them for the other:
    that tells nothing of the VM.
    """
    if _unreadable(old) == _unreadable(new):
        return set()
    return {name for name in {*old, *new} if (name in old) != (name in new)}


def _both_told(vm: Document, other: Document) -> Document:
    """Return a VM whose names of hosts, networks and storage are empty where those of the other are."""
    told = {**vm, "host": vm["host"] if other["host"] else ""}
    for rows, name, key in (("nics", "network", "index"), ("disks", "storage", "id")):
        empty = {row[key] for row in other[rows] if not row[name]}
        told[rows] = [{**row, name: ""} if row[key] in empty else row for row in vm[rows]]
    return told


def _unreadable(document: Document) -> set[str]:
    return set(document.get("unreadable") or ())


def _readable(old: Document, new: Document) -> Iterable[str]:
    a, b = _unreadable(old), _unreadable(new)
    if b - a:
        yield f"the user may not read any more: {', '.join(sorted(b - a))}"
    if a - b:
        yield f"the user may read again: {', '.join(sorted(a - b))}"


def _size(vm: Document) -> str:
    disks = vm["disks"]
    size = f"{count_of(len(disks), 'disk')} of {size_in_words(sum(disk['size_bytes'] for disk in disks))}"
    return f" ({count_of(vm['cpu_count'], 'CPU')}, {vm['memory_bytes'] >> 20} MiB, {size})"


def _facts(facts: Iterable[tuple[str, str]], before: Document, now: Document) -> Iterable[str]:
    for field, label in facts:
        a, b = before.get(field), now.get(field)
        if a != b:
            yield f"{label} {_text(a)} → {_text(b)}"


def _rows(
    what: str,
    before: Mapping[str, Document],
    now: Mapping[str, Document],
    about: Callable[[Document], str],
    changes: Callable[[Document, Document], Iterable[str]],
) -> Iterable[str]:
    for key, row in before.items():
        if key not in now:
            yield f"{what} {key} removed ({about(row)})"
    for key, row in now.items():
        if key not in before:
            yield f"{what} {key} added ({about(row)})"
        else:
            yield from (f"{what} {key}: {text}" for text in changes(before[key], row))


def _disk_about(disk: Document) -> str:
    return size_in_words(disk["size_bytes"])


def _disk_changes(before: Document, now: Document) -> Iterable[str]:
    if before["size_bytes"] != now["size_bytes"]:
        yield f"size {size_in_words(before['size_bytes'])} → {size_in_words(now['size_bytes'])}"
    if before["identity"] not in (now["identity"], *now.get("former_identities", ())):
        yield "it is another disk now"
    yield from _facts(_DISK_FACTS, before, now)


def _nic_about(nic: Document) -> str:
    return f"{nic['mac'] or 'no MAC'} on {nic['network'] or 'no network'}"


def _cards(vm: Document) -> dict[str, Document]:
    return {str(nic["index"] + 1): nic for nic in vm["nics"]}


def _attributes(before: Document, now: Document, prefix: str, left_out: Iterable[str]) -> Iterable[str]:
    """Tell what differs in a document of any shape."""
    for name in [*before, *(name for name in now if name not in before)]:
        a, b = before.get(name), now.get(name)
        if a == b or name in left_out or name in _MEASURED:
            continue
        label = f"{prefix}{_spaced(name)}"
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            if "id" not in a and "id" not in b:
                yield from _attributes(a, b, f"{label} ", ())
            elif a.get("id") != b.get("id"):  # else it is the same thing, and has a line of its own
                yield f"{label} {_text(a)} → {_text(b)}"
        elif _is_table(a) and _is_table(b):
            yield from _rows(
                label,
                _by_any_key(a),
                _by_any_key(b),
                lambda row: f"{len(row)} attributes",
                lambda one, other: _attributes(one, other, "", ()),
            )
        else:
            yield f"{label} {_text(a)} → {_text(b)}"


def _is_table(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(row, Mapping) for row in value)


def _by(key: str, rows: Iterable[Document]) -> dict[str, Document]:
    return {str(row[key]): row for row in rows}


def _by_any_key(rows: Any) -> dict[str, Document]:
    """Return rows by what names them best, by their place when nothing does or two have one name."""
    if not _is_table(rows):
        return {}
    for key in _ROW_KEYS:
        named = {str(row[key]): row for row in rows if row.get(key) not in (None, "")}
        if len(named) == len(rows):
            return named
    return {str(place): row for place, row in enumerate(rows, start=1)}


def _spaced(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])([A-Z])(?=[a-z])", lambda match: f" {match[1].lower()}", name)


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        value = value.get("name") or value.get("id") or (f"{len(value)} attributes" if "id" not in value else "")
    if value is None or value == "" or value == []:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= _MAX_TEXT else f"{text[: _MAX_TEXT - 1]}…"
