"""Options that name what a conversion needs: scripts, LUKS keys, Windows drivers. Checked at every level of a plan."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from mtv.plan.assemble import Draft, Raw
from mtv.plan.problems import did_you_mean
from mtv.plan.script_sets import check_scripts

OWN_SET = "./"
"""How `customization_scripts` begins when it names a set of the plan's own."""
CLAIM = "claim:"
"""How `virtio_win` begins when the drivers lie on a claim of the target namespace."""
_OBJECT_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_OBJECT_RULE = "lower-case letters, digits, `-` and `.`, as objects of Kubernetes have"


def check_guest_options(draft: Draft) -> None:
    """Add every fault of these options and of the plan's own scripts."""
    check_scripts(draft)
    sets = draft.raw.get("scripts")
    known = [f"{OWN_SET}{name}" for name in sets] if isinstance(sets, dict) else []
    for loc, level in _levels(draft):
        _check(draft, loc, level, known)


def _levels(draft: Draft) -> Iterator[tuple[tuple[str | int, ...], Raw]]:
    yield ("defaults",), _mapping(draft.raw.get("defaults"))
    for index, wave in enumerate(draft.waves):
        yield ("waves", index, "defaults"), _mapping(wave.get("defaults"))
        for position, vm in enumerate(wave["vms"]):
            yield ("waves", index, "vms", position), vm


def _check(draft: Draft, loc: tuple[str | int, ...], level: Raw, sets: list[str]) -> None:
    scripts, keys, drivers = (level.get(name) for name in ("customization_scripts", "luks", "virtio_win"))
    if isinstance(scripts, str) and scripts.startswith(OWN_SET):
        if scripts not in sets:
            cure = did_you_mean(scripts, sets) or "add it to `scripts`, or as a folder below <plan>.scripts"
            draft.problem((*loc, "customization_scripts"), f"the plan has no set of scripts {scripts}", cure)
    elif isinstance(scripts, str) and not _OBJECT_NAME.fullmatch(scripts):
        message = f"{scripts!r} names no ConfigMap"
        cure = f"use {_OBJECT_RULE}, or {OWN_SET}set for a set of the plan's own"
        draft.problem((*loc, "customization_scripts"), message, cure)
    if isinstance(keys, str) and not _OBJECT_NAME.fullmatch(keys):
        draft.problem((*loc, "luks"), f"{keys!r} names no Secret", f"use {_OBJECT_RULE}; the keys lie in that Secret")
    if isinstance(drivers, str) and not _names_drivers(drivers):
        cure = "write /path/in/the/mover's/image, or claim:name/path/virtio-win.iso"
        draft.problem((*loc, "virtio_win"), f"{drivers!r} is no place of virtio-win", cure)


def _names_drivers(text: str) -> bool:
    if not text.startswith(CLAIM):
        return text.startswith("/")
    name, _, path = text.removeprefix(CLAIM).partition("/")
    return bool(_OBJECT_NAME.fullmatch(name)) and ".." not in path.split("/")


def _mapping(value: Any) -> Raw:
    return value if isinstance(value, dict) else {}
