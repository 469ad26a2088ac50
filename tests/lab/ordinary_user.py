"""Runs a command as a user who has nothing but an entry in the tables of users, in a mount namespace that shows it one.

    unshare --mount ── this file, as root: tables, folders that others may not enter ──▶ setpriv ──▶ the command

Nothing of the machine is changed: the tables are copies that are mounted over the real ones, and a folder that others
may not enter (root's own, where Python or the repository may lie) is covered by one of which they see what they need.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

NAME, ID = "mtv-nobody", 64021
SUBORDINATE = range(700000, 765536)
_ETC = {
    "passwd": f"{NAME}:x:{ID}:{ID}::/nonexistent:/bin/sh\n",
    "group": f"{NAME}:x:{ID}:\n",
    "subuid": f"{NAME}:{SUBORDINATE.start}:{len(SUBORDINATE)}\n",
    "subgid": f"{NAME}:{SUBORDINATE.start}:{len(SUBORDINATE)}\n",
}


def command_as_user(argv: Sequence[str | Path], *, needs: Iterable[Path]) -> list[str]:
    """The command that root runs so that `argv` runs as the user, to whom the folders `needs` are shown."""
    shown = os.pathsep.join(str(path.resolve()) for path in needs)
    here = ["/usr/bin/python3", str(Path(__file__).resolve()), shown]
    return ["unshare", "--mount", "--propagation", "private", "--", *here, *(str(word) for word in argv)]


def _mount(*words: object) -> None:
    subprocess.run(["mount", *(str(word) for word in words)], check=True)


def _become(shown: list[Path], argv: list[str]) -> None:
    """Make the namespace as the user is to see it, and go on as the user. Does not return."""
    aside = Path("/run/mtv-nobody")  # seen by this namespace alone once it is mounted
    aside.mkdir(exist_ok=True)
    _mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", aside)
    for name, line in _ETC.items():
        table = Path("/etc", name)
        copy = aside / name
        copy.write_text((table.read_text() if table.exists() else "") + line)
        if table.exists():  # without uidmap there is no table, and the command says what it lacks
            _mount("--bind", copy, table)
    for folder in sorted({closed for path in shown if (closed := _closed(path))}):
        within = [path for path in shown if path.is_relative_to(folder)]
        for number, path in enumerate(within):
            kept = aside / str(number)
            kept.mkdir(exist_ok=True)
            _mount("--bind", path, kept)
        _mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", folder)
        for number, path in enumerate(within):
            path.mkdir(parents=True, exist_ok=True)
            _mount("--move", aside / str(number), path)
    become = ["setpriv", f"--reuid={ID}", f"--regid={ID}", "--clear-groups", *argv]
    os.execvp(become[0], become)  # noqa: S606  words, no shell


def _closed(path: Path) -> Path | None:
    """The outermost folder above a path that others may not enter; None when they may enter all."""
    return next((above for above in reversed(path.parents) if not above.stat().st_mode & 0o001), None)


if __name__ == "__main__":
    _become([Path(path) for path in sys.argv[1].split(os.pathsep)], sys.argv[2:])
