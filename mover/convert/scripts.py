"""The user's scripts, by their names: which guest, when, in which order."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from mtv.model.conversion import SCRIPT_NAME, SCRIPT_NAME_CURE, GuestScript
from mtv.model.errors import PermanentError

_MAX_BYTES = 1 << 20


class When(StrEnum):
    """Where and when a script runs. RUN: in the guest's filesystem, during the conversion, without the guest."""

    WINDOWS_FIRST_BOOT = "win_firstboot"
    LINUX_RUN = "linux_run"
    LINUX_FIRST_BOOT = "linux_firstboot"


def sorted_scripts(scripts: Iterable[GuestScript]) -> dict[When, tuple[GuestScript, ...]]:
    """The scripts of each kind in the order of their numbers, then of their names.

    Raises `PermanentError` (code script-name) for a name of another form, so that no script is silently left out.
    """
    found: dict[When, list[tuple[int, GuestScript]]] = {when: [] for when in When}
    for script in scripts:
        match = SCRIPT_NAME.match(script.name)
        if not match:
            raise PermanentError(
                f"the script {script.name!r} has no name that says when to run it",
                cure=SCRIPT_NAME_CURE,
                code="script-name",
            )
        if len(script.content.encode()) > _MAX_BYTES:
            raise PermanentError(
                f"the script {script.name} is larger than 1 MiB", cure="let it fetch what it needs", code="script-large"
            )
        found[When(match["windows"] or match["linux"])].append((int(match["order"]), script))
    return {
        when: tuple(script for _, script in sorted(items, key=lambda item: (item[0], item[1].name)))
        for when, items in found.items()
    }
