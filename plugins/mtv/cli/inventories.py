"""`mtv inventory`: take the inventory of a source, show a VM of it, say what changed."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import NoReturn

import msgspec

from mtv.cli.columns import paragraph, table
from mtv.cli.examples import MOMENTS
from mtv.cli.installation import Installation
from mtv.inventory import Snapshot, snapshot
from mtv.inventory.drift import size_in_words
from mtv.inventory.history import VM, Recorded, changes_between, record, vms_at
from mtv.inventory.progress import spoken
from mtv.model.errors import PermanentError
from mtv.model.near_names import nearest
from mtv.model.source import SourceVm
from mtv.model.text import count_of, printable
from mtv.providers.registry import open_provider
from mtv.reporting import words
from mtv.store import InventoryMoment, Store

_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*(m|min|h|d|w)")
_SECONDS = {"m": 60, "min": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def take(arguments: argparse.Namespace, installation: Installation) -> int:
    """Read what a source holds, keep it in the store and print it; some VMs only (`--vm`) are printed and not kept."""
    source = arguments.connection
    if arguments.vm is None:
        with installation.store_to_read():
            pass  # one that cannot take it is refused before the source is read, which may take minutes
    with open_provider(installation.connections.get(source)) as provider:
        about = provider.check()
        seen = snapshot(provider, arguments.vm, on_progress=spoken(_say, source))
    recorded = None
    if arguments.vm is None:
        with installation.store() as store:
            keep = timedelta(days=installation.settings.inventory_keep_days)
            recorded = record(store, source, seen.vms, listed=seen.listed, keep=keep)
    if arguments.json:
        print(json.dumps([msgspec.to_builtins(vm) for vm in seen.vms], indent=2, ensure_ascii=False))
    else:
        print(printable(about))
        _print_vms(seen.vms)
        _print_summary(seen, recorded)
    for what, reason in seen.refused.items():
        print(f"{printable(what)} is not taken: {printable(reason)}", file=sys.stderr)
    for name in seen.missing:
        print(f"{printable(name)}: the source has no such VM", file=sys.stderr)
    return 1 if seen.missing else 0


def show(arguments: argparse.Namespace, installation: Installation) -> int:
    """Print what the newest inventory knows of a VM, and what rules said of it."""
    with _looked_into(installation, arguments.connection) as store:
        moment = _moment(store, arguments.connection, arguments.at)
        found = vms_at(store, moment, name=arguments.vm)
        judgements = store.judgements(arguments.connection)
        keys = {one.key: one.digest for one in store.inventory(moment, kind=VM, name=arguments.vm)}
        if not found:
            _refuse_vm(store, moment, arguments.vm)
    if arguments.json:
        print(json.dumps([msgspec.to_builtins(vm) for vm in found], indent=2, ensure_ascii=False))
        return 0
    print(f"{arguments.connection} as read {words.instant(moment.taken_at)}")
    for vm in found:
        _print_vm(vm)
        judged = judgements.get(vm.id)
        if judged is None or judged.digest != keys[vm.id]:
            by = "`mtv plan approve` or the DAG of the inventory"
            print(paragraph(f"concerns: not validated yet in this state; {by} does that", rest="  "))
        else:
            print(f"concerns: {len(judged.concerns) or 'none'}")
            for concern in judged.concerns:
                said = f"{concern.category}: {concern.label} — {concern.assessment}"
                print(paragraph(said, first="  ", rest="    "))
    return 0


def diff(arguments: argparse.Namespace, installation: Installation) -> int:
    """Print what changed between a past moment and the newest inventory, in words."""
    with _looked_into(installation, arguments.connection) as store:
        now = _moment(store, arguments.connection, arguments.until)
        before = _before(store, now, arguments.since, arguments.until)
        lines = changes_between(store, before, now)
    for line in lines:
        print(printable(line))
    span = f"{words.instant(before.taken_at)} and {words.instant(now.taken_at)}"
    print(f"{count_of(len(lines), 'change')} between {span}")
    return 0


def instant(text: str, *, now: datetime | None = None) -> datetime:
    """Read a moment: `2h` (ago), `2026-11-25`, `2026-11-25T22:00+01:00`; a second is meant with its end, as moments are
    shown without their fractions. Raises `PermanentError`.
    """
    now = now or datetime.now(UTC)
    span = _SPAN.fullmatch(text.strip())
    try:
        if span:
            return now - timedelta(seconds=float(span[1]) * _SECONDS[span[2]])
        moment = datetime.fromisoformat(text.strip())
    except (ValueError, OverflowError):
        raise PermanentError(
            f"{text!r} is not a moment", cure=f"write one of: {MOMENTS}", code="MomentUnreadable"
        ) from None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    if moment > now:
        raise PermanentError(
            f"{text!r} lies in the future: it is {words.instant(now)}",
            cure="name a past moment",
            code="MomentUnreadable",
        )
    return moment if moment.microsecond else moment.replace(microsecond=999_999)


def _moment(store: Store, source: str, at: str | None) -> InventoryMoment:
    found = store.inventory_moment(source, instant(at) if at else None)
    if found is None:
        _refuse(store, source, at)
    return found


@contextmanager
def _looked_into(installation: Installation, source: str) -> Iterator[Store]:
    """Open the store to read in it; where there is none, none is made."""
    with installation.store_to_read() as store:
        if store is None:
            raise PermanentError(
                f"no inventory of {source} has been taken yet: {installation.no_store()}",
                cure=f"mtv inventory {source}, or set MTV_STATE_FOLDER to where one was kept",
                code="NoInventory",
            )
        yield store


def _before(store: Store, now: InventoryMoment, since: str, until: str | None) -> InventoryMoment:
    if since != "last":
        if until and instant(since) > instant(until):
            raise PermanentError(
                f"--since {since} lies after --until {until}", cure="exchange the two", code="MomentUnreadable"
            )
        return _moment(store, now.source, since)
    looks = [moment for moment in store.inventory_moments(now.source) if moment.id < now.id]
    if not looks:
        raise PermanentError(
            f"the inventory of {now.source} was taken once only", cure=f"take it again: mtv inventory {now.source}"
        )
    return looks[0]


def _refuse(store: Store, source: str, at: str | None) -> NoReturn:
    looks = store.inventory_moments(source, limit=100_000)
    if at and looks:
        raise PermanentError(
            f"the inventory of {source} goes back to {words.instant(looks[-1].taken_at)} only, not to {at}",
            cure="name a later moment",
            code="NoInventory",
        )
    raise PermanentError(
        f"no inventory of {source} has been taken yet", cure=f"mtv inventory {source}", code="NoInventory"
    )


def _refuse_vm(store: Store, moment: InventoryMoment, name: str) -> NoReturn:
    near = nearest(name, (vm.name for vm in store.inventory(moment, kind=VM)))
    anew = f"take it anew: mtv inventory {moment.source}"
    raise PermanentError(
        f"the inventory of {moment.source} ({words.instant(moment.taken_at)}) has no VM {name!r}",
        cure=f"did you mean {printable(near)!r}? Else {anew}" if near else anew,
        code="NoSuchVm",
    )


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _print_vms(vms: Sequence[SourceVm]) -> None:
    if not vms:
        return
    rows = [
        (vm.name, vm.power, vm.cpu_count, words.size(vm.memory_bytes), len(vm.disks),
         words.size(sum(disk.size_bytes for disk in vm.disks)), vm.firmware, vm.guest_os or "—")
        for vm in vms
    ]  # fmt: skip
    print(table(("VM", "POWER", "CPUS", "MEMORY", "DISKS", "SIZE", "FIRMWARE", "GUEST"), rows, right=(2, 3, 4, 5)))


def _print_summary(seen: Snapshot, recorded: Recorded | None) -> None:
    power = Counter(vm.power.value for vm in seen.vms)
    size = words.size(sum(disk.size_bytes for vm in seen.vms for disk in vm.disks))
    disks = count_of(sum(len(vm.disks) for vm in seen.vms), "disk")
    states = ", ".join(f"{count} {state}" for state, count in sorted(power.items()))
    print(f"\n{count_of(len(seen.vms), 'VM')} ({states or 'none'}), {disks} of {size}")
    for name, number in Counter(vm.name for vm in seen.vms).items():
        if number > 1:
            print(f"{number} VMs are called {printable(name)}: a plan cannot tell which of them is meant")
    kinds = Counter(thing.kind for thing in seen.things)
    if kinds:
        print("on " + ", ".join(count_of(count, kind) for kind, count in sorted(kinds.items())))
    names = {vm.name for vm in seen.vms}
    for what, found in seen.unreadable.items():
        noun = "VM" if names.issuperset(found) else "object"
        of = f"{count_of(len(found), noun)}, such as {printable(found[0])}"
        print(f"the user may not read {printable(what)} of {of}")
    if recorded is None:
        return
    if recorded.before is None:
        print("kept in the store, for the first time")
        return
    print(f"{count_of(len(recorded.changes), 'change')} since {words.instant(recorded.before.taken_at)}")
    for line in recorded.changes:
        print(f"  {printable(line)}")


def _print_vm(vm: SourceVm) -> None:
    flags = [
        word
        for word, there in (("secure boot", vm.secure_boot), ("TPM", vm.tpm), ("template", vm.is_template))
        if there
    ]
    who = f"vm {vm.name} ({vm.id}), power {vm.power}, {', '.join(_places(vm))}"
    print(f"\n{paragraph(who, rest='  ')}")
    guest = printable(vm.guest_os or "unknown guest")
    print(f"{count_of(vm.cpu_count, 'CPU')}, {vm.memory_bytes >> 20} MiB, {', '.join([vm.firmware, *flags])}, {guest}")
    disks = [
        (disk.id, disk.bus, size_in_words(disk.size_bytes), disk.storage, "shared" if disk.shared else "")
        for disk in vm.disks
    ]
    if disks:
        print(table(("DISK", "BUS", "SIZE", "STORAGE", ""), disks, right=(2,)))
    nics = [
        (nic.index + 1, nic.mac or "—", nic.network, nic.model, "" if nic.connected else "disconnected")
        for nic in vm.nics
    ]
    if nics:
        print(table(("CARD", "MAC", "NETWORK", "MODEL", ""), nics))


def _places(vm: SourceVm) -> list[str]:
    """Return where a VM is in words; its path tells namesakes apart."""
    path, host = vm.document.get("path"), f"host {vm.host}" if vm.host else "no host known"
    return [f"path {path}", host] if path else [host]
