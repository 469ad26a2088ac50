"""Plans compiled to JSON, keyed by the content of their files, so that unchanged files are never parsed again.

`<hash>.json` is the plan; `<hash>.head.json` says its name, waves and problems without it.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import msgspec

from mtv.model.errors import NOT_UNDERSTOOD, PermanentError
from mtv.model.plan import Plan
from mtv.model.whole_files import write_whole
from mtv.plan.load import LoadResult, PlanFiles, files_in, files_of, load_files
from mtv.plan.names import plan_name
from mtv.plan.options import effective
from mtv.plan.problems import Problem
from mtv.plan.script_sets import MAX_SET_BYTES, script_files

_FORMAT = 3
"""Raise it whenever the compiled form or the checks change: old files are then compiled again."""
_HASH = re.compile(r"[0-9a-f]{64}")


class WaveHead(msgspec.Struct, frozen=True, kw_only=True):
    """What drawing a wave needs: no VM is listed, so it costs the same for ten and for ten thousand."""

    name: str
    vm_count: int
    sources: tuple[str, ...]
    types: tuple[str, ...]
    start_after: tuple[str, ...] = ()
    schedule: str | None = None
    max_vms_in_flight: int = 4


class _Head(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    waves: tuple[WaveHead, ...] = ()
    problems: tuple[Problem, ...] = ()


class CompiledPlan:
    """A plan of the folder: `plan` is None and `problems` says why when it does not check.

    `hash` is of the files' content, `path` the plan's main file, `waves` a short account that needs no plan.
    """

    def __init__(self, *, path: Path, content_hash: str, head: _Head, compiled_folder: Path) -> None:
        self.path = path
        self.hash = content_hash
        self.name = head.name
        self.waves = head.waves
        self.problems = head.problems
        self._compiled_folder = compiled_folder

    @property
    def plan(self) -> Plan | None:
        """The plan itself, read from its JSON at each call."""
        return None if self.problems else load_compiled(self._compiled_folder, self.hash)

    def __repr__(self) -> str:
        return f"CompiledPlan({self.name!r}, {str(self.path)!r}, problems={len(self.problems)})"


def compile_folder(folder: Path, compiled_folder: Path) -> list[CompiledPlan]:
    """Compile every plan of a folder, in order of their stems. A bad plan is returned with its problems.

    Raises `PermanentError` only when the folder itself cannot be read or the compiled one not written.
    """
    try:
        members = files_in(folder)
        compiled_folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PermanentError(
            f"the plans in {folder} cannot be compiled: {error.strerror} ({error.filename})",
            cure="check MTV_PLANS_FOLDER and MTV_STATE_FOLDER",
        ) from error
    plans: list[CompiledPlan] = []
    names: dict[str, Path] = {}
    for member in members:
        compiled = _compile(files_of(member), compiled_folder)
        if compiled.name in names:
            compiled = _name_taken(compiled, names[compiled.name], compiled_folder)
        names[compiled.name] = compiled.path
        plans.append(compiled)
    return plans


def load_compiled(compiled_folder: Path, content_hash: str) -> Plan:
    """Return a compiled plan. Raises `PermanentError` when the hash is unknown."""
    path = compiled_folder / f"{content_hash}.json"
    if not _HASH.fullmatch(content_hash) or not path.is_file():
        raise PermanentError(f"no plan is compiled under {content_hash}", cure="compile the plans folder again")
    return Plan.model_validate_json(path.read_bytes())


def content_hash(files: PlanFiles) -> str:
    """Return the hash of the files' names and bytes, the plan's own scripts included."""
    digest = hashlib.sha256(f"mtv plan format {_FORMAT}\0{files.stem}\0".encode())
    for path in (files.yaml, files.twin, files.csv):
        digest.update(b"\0-" if path is None else str(path).encode() + b"\0" + path.read_bytes() + b"\0")
    for path in script_files(files.scripts):
        content = path.read_bytes() if path.is_file() and path.stat().st_size <= MAX_SET_BYTES else b""
        digest.update(str(path).encode() + b"\0" + hashlib.sha256(content).digest())
    return digest.hexdigest()


def _compile(files: PlanFiles, compiled_folder: Path) -> CompiledPlan:
    try:
        key = content_hash(files)
        head = _cached_head(compiled_folder, key)
        if head is None:
            head = _write(load_files(files), files, compiled_folder, key)
    except Exception as error:  # noqa: BLE001  one bad plan must never hide the others; it is shown as its own fault
        key = hashlib.sha256(str(files.main).encode()).hexdigest()
        problem = Problem(str(files.main), 0, 0, f"the plan cannot be read: {type(error).__name__}: {error}")
        head = _Head(name=plan_name(files.stem), problems=(problem,))
    return CompiledPlan(path=files.main, content_hash=key, head=head, compiled_folder=compiled_folder)


def _cached_head(compiled_folder: Path, key: str) -> _Head | None:
    try:
        head = msgspec.json.decode((compiled_folder / f"{key}.head.json").read_bytes(), type=_Head)
    except FileNotFoundError:
        return None
    except NOT_UNDERSTOOD:  # written by another version, or damaged: compile again
        return None
    if not head.problems and not (compiled_folder / f"{key}.json").exists():
        return None
    return head


def _write(result: LoadResult, files: PlanFiles, compiled_folder: Path, key: str) -> _Head:
    plan = result.plan
    if plan is None:
        head = _Head(name=plan_name(files.stem), problems=result.problems)
    else:
        head = _Head(name=plan.name, waves=tuple(_wave_heads(plan)))
        # A plan may hold scripts that are nobody else's business, and its own file may be private.
        content = plan.model_dump_json(exclude_none=True).encode()
        write_whole(compiled_folder / f"{key}.json", content, mode=0o600)
    write_whole(compiled_folder / f"{key}.head.json", msgspec.json.encode(head), mode=0o600)
    return head


def _wave_heads(plan: Plan) -> list[WaveHead]:
    heads = []
    for wave in plan.waves:
        vms = [effective(plan, wave, vm) for vm in wave.vms]
        heads.append(
            WaveHead(
                name=wave.name,
                vm_count=len(vms),
                sources=tuple(dict.fromkeys(vm.source for vm in vms)),
                types=tuple(dict.fromkeys(vm.type for vm in vms)),
                start_after=wave.start_after,
                schedule=wave.schedule,
                max_vms_in_flight=wave.max_vms_in_flight,
            )
        )
    return heads


def _name_taken(compiled: CompiledPlan, other: Path, compiled_folder: Path) -> CompiledPlan:
    problem = Problem(
        str(compiled.path), 1, 1, f"the name {compiled.name} belongs to {other.name}", "give the plan another `name`"
    )
    # A name of its own all the same, so that its messages are shown beside the plan that has the name.
    mark = hashlib.sha256(compiled.path.name.encode()).hexdigest()[:6]
    head = _Head(name=f"{compiled.name[:33].rstrip('-')}-{mark}", problems=(*compiled.problems, problem))
    return CompiledPlan(path=compiled.path, content_hash=compiled.hash, head=head, compiled_folder=compiled_folder)
