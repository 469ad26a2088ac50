"""A plan's own scripts for guests: sets of files in the folder `<plan>.scripts/`, beside those written in the YAML."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mtv.model.conversion import SCRIPT_NAME, SCRIPT_NAME_CURE
from mtv.plan.assemble import Draft
from mtv.plan.problems import Problem

SUFFIX = ".scripts"
MAX_SET_BYTES = 512 * 1024
"""A set travels in a Secret, which holds 1 MiB in all."""
_MAX_FILES = 200


def script_files(folder: Path | None) -> list[Path]:
    """Return what lies in the sets of a plan's folder, in order, hidden files left out. Raises `OSError`."""
    if folder is None:
        return []
    sets = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    found: list[Path] = []
    for path in sets:
        inside = sorted(path.iterdir()) if path.is_dir() else [path]
        found += [file for file in inside if not file.name.startswith(".")]
    return found[: _MAX_FILES + 1]


def add_script_files(draft: Draft, folder: Path | None) -> None:
    """Put the folder's scripts into the draft, and note every fault of theirs at the file that has it."""
    try:
        files = script_files(folder)
    except OSError as error:
        draft.problems.append(Problem(str(folder), 0, 0, f"the folder cannot be read: {error.strerror}"))
        return
    if len(files) > _MAX_FILES:
        draft.problems.append(Problem(str(folder), 0, 0, f"more than {_MAX_FILES} scripts", "leave out what is unused"))
        return
    if not files or not draft.raw:
        return
    written = draft.raw.get("scripts")
    sets: dict[str, Any] = dict(written) if isinstance(written, dict) else {}
    for path in files:
        name = path.parent.name
        text = _text_of(draft, path, folder)
        if text is None:
            continue
        members = sets.get(name, {})
        if isinstance(members, dict) and path.name in members:
            draft.problems.append(
                Problem(str(path), 1, 1, f"script {path.name} of set {name} is in the plan's file, too", "keep one")
            )
        elif isinstance(members, dict):
            sets[name] = {**members, path.name: text}
    if written is None or isinstance(written, dict):  # else the model says what is wrong with it
        draft.raw["scripts"] = sets


def check_scripts(draft: Draft) -> None:
    """Add faults of names and sizes of the scripts that are written in the plan's file or lie beside it."""
    sets = draft.raw.get("scripts")
    for name, members in (sets if isinstance(sets, dict) else {}).items():
        if not isinstance(members, dict):
            continue
        for script in members:
            if not SCRIPT_NAME.match(str(script)):
                loc = ("scripts", name, script)
                message = f"the name of script {script} does not say when to run it"
                draft.problem(loc, message, SCRIPT_NAME_CURE, key=True)
        size = sum(len(text.encode()) for text in members.values() if isinstance(text, str))
        if size > MAX_SET_BYTES:
            message = f"the scripts of set {name} are larger than {MAX_SET_BYTES // 1024} KiB"
            draft.problem(("scripts", name), message, "let them fetch what they need", key=True)


def _text_of(draft: Draft, path: Path, folder: Path | None) -> str | None:
    if path.parent == folder:
        message = "a script that belongs to no set"
        draft.problems.append(Problem(str(path), 1, 1, message, f"put it into a folder below {path.parent.name}"))
        return None
    if not path.is_file():
        draft.problems.append(Problem(str(path), 0, 0, "not a file", "put the scripts of a set into one folder"))
        return None
    if not SCRIPT_NAME.match(path.name):
        message = f"the name of script {path.name} does not say when to run it"
        draft.problems.append(Problem(str(path), 1, 1, message, SCRIPT_NAME_CURE))
        return None
    try:
        with path.open("rb") as file:
            return file.read(MAX_SET_BYTES + 1).decode("utf-8-sig")
    except UnicodeDecodeError:
        draft.problems.append(Problem(str(path), 1, 1, "the text is not UTF-8", "save the file as UTF-8"))
    except OSError as error:
        draft.problems.append(Problem(str(path), 0, 0, f"the file cannot be read: {error.strerror}"))
    return None
