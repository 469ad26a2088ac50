"""The user's scripts, by their names: which guest, when, in which order."""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import StrEnum

from mtv.model.conversion import GuestScript
from mtv.model.errors import PermanentError

_NAME = re.compile(
    r"^(?P<order>[0-9]+)_(?P<when>win_firstboot|linux_run|linux_firstboot)(?:[A-Za-z0-9_.-]*)\.(?P<ext>ps1|sh)$"
)
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
        match = _NAME.match(script.name)
        when = When(match["when"]) if match else None
        if not match or not when or (match["ext"] == "ps1") != (when is When.WINDOWS_FIRST_BOOT):
            raise PermanentError(
                f"the script {script.name!r} has no name that says when to run it",
                cure="name it NN_linux_run_….sh, NN_linux_firstboot_….sh or NN_win_firstboot_….ps1",
                code="script-name",
            )
        if len(script.content.encode()) > _MAX_BYTES:
            raise PermanentError(
                f"the script {script.name} is larger than 1 MiB", cure="let it fetch what it needs", code="script-large"
            )
        found[when].append((int(match["order"]), script))
    return {
        when: tuple(script for _, script in sorted(items, key=lambda item: (item[0], item[1].name)))
        for when, items in found.items()
    }
