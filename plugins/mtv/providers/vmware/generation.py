"""Generations of disks: texts that differ whenever the bytes may. Pure."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from mtv.model.source import SourceVm

_NO_START = ";on="


def generation(change_id: str, *, change_version: str, power_on: str) -> str:
    """Return the generation of a disk. `power_on` is when its VM was started last, "" when vCenter knows of no start.

    A change id alone stands still while the guest writes between two snapshots, so the last start and the
    configuration's version count too.
    """
    return f"cid={change_id};cfg={change_version}{_NO_START}{power_on}"


def forgotten(before: SourceVm, now: SourceVm) -> Mapping[str, str]:
    """Return the earlier generations, by disk id, that differ from those of `now` in nothing but a start: it was known
    and is not any more.
    """
    known = {disk.id: disk.generation for disk in before.disks}
    return {
        disk.id: known[disk.id]
        for disk in now.disks
        if disk.id in known
        and disk.generation.endswith(_NO_START)
        and known[disk.id] != disk.generation
        and known[disk.id].startswith(disk.generation)
    }


def with_generations(vm: SourceVm, generations: Mapping[str, str]) -> SourceVm:
    """Return the VM with these generations, by disk id; other disks keep theirs."""
    disks = (msgspec.structs.replace(disk, generation=generations.get(disk.id, disk.generation)) for disk in vm.disks)
    return msgspec.structs.replace(vm, disks=tuple(disks))
