"""Rule files: one concern a file, with the examples that prove it.

    id: vmware.disk.capacity.invalid
    category: Critical                     # Critical blocks the VM; Warning and Information are shown
    label: Disk {file} has no size         # filled in per row, see mtv.validation.templates
    assessment: One sentence on what it means for the migration and what to do.
    table: disks                           # vms (default), or a list of the document: disks, nics, devices, …
    condition: capacity <= 0               # see mtv.validation.language
    unless: rdm                            # optional: rows where this is true are excepted
    examples:
      fires: [{disks: [{file: a.vmdk, capacity: 0}]}]
      silent: [{disks: [{file: a.vmdk, capacity: 1}]}]
      undefined: [{disks: [{file: a.vmdk}]}]

Files lie in `<rules folder>/<provider>/`; users put theirs beside ours.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from mtv.model.concern import Category
from mtv.model.errors import PermanentError
from mtv.model.near_names import nearest
from mtv.validation.language.parser import parse
from mtv.validation.language.syntax import Condition, ConditionError, paths_of
from mtv.validation.templates import Template

Outcome = Literal["fires", "silent", "undefined"]
OUTCOMES: tuple[Outcome, ...] = ("fires", "silent", "undefined")

_PROVIDER_FOLDERS = {"vsphere": "vmware"}
_MAX_BYTES = 1 << 20
_MAX_DEPTH = 4096
"""libyaml ends the process at some 10,000 levels. A file has no more than characters in a line and opening brackets."""
_ID = re.compile(r"[a-z][a-z0-9_-]*(\.[A-Za-z0-9_-]+)+")
_TABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.([A-Za-z_][A-Za-z0-9_]*|\*))*")
_REQUIRED = ("id", "category", "label", "assessment", "condition")
_KEYS = (*_REQUIRED, "table", "unless", "examples")


class RuleError(ValueError):
    """A rule file that cannot be used; the message says what is wrong in it."""


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """One rule. `examples` hold whole documents by what the rule must do with them."""

    id: str
    category: Category
    label: Template
    assessment: Template
    table: str
    condition: Condition
    unless: Condition | None
    examples: Mapping[Outcome, tuple[Mapping[str, Any], ...]]
    file: Path


class RuleProblem(msgspec.Struct, frozen=True):
    """Why a rule file is not used."""

    file: Path
    message: str

    def __str__(self) -> str:
        return f"{self.file}: {self.message}"


class RuleSet(msgspec.Struct, frozen=True, kw_only=True):
    """The usable rules of a provider in the order of their ids; `version` changes whenever a file does."""

    provider: str
    rules: tuple[Rule, ...]
    problems: tuple[RuleProblem, ...]
    version: str


def require_rules(folder: Path, provider: str, beside: Sequence[Path] = (), *, tell: Callable[[str], None]) -> RuleSet:
    """Load rules as `load_rules` does and `tell` each file that is left out.

    Raises `PermanentError` when no rule is left because of problems: all that is wrong would pass as validated. An
    empty folder has no problems: somebody wants no rules.
    """
    rules = load_rules(folder, provider, beside)
    if not rules.rules and rules.problems:
        why = "; ".join(map(str, rules.problems))
        raise PermanentError(
            f"no rules for {rules.provider}: {why}",
            cure="set MTV_RULES_FOLDER to the folder that holds them",
            code="NoRules",
        )
    for problem in rules.problems:
        tell(f"rule left out: {problem}")
    return rules


def load_rules(folder: Path, provider: str, beside: Sequence[Path] = ()) -> RuleSet:
    """Load all rule files of a provider (`vmware`, also by its connection type `vsphere`; `ova`, …).

    `beside` are further folders of the same form; they need not have rules for this provider, and what they add cannot
    take an id that is there. A broken file, or a folder that is not there, becomes a problem and takes no other rule
    with it.
    """
    provider = _PROVIDER_FOLDERS.get(provider, provider)
    places = [one / provider for one in (folder, *beside)]
    rules: dict[str, Rule] = {}
    problems: list[RuleProblem] = []
    version = hashlib.sha256()
    if not any(place.is_dir() for place in places):
        problems.append(RuleProblem(places[0], f"there is no folder with rules for {provider}"))
    problems += [RuleProblem(one, "there is no such folder") for one in beside if not one.is_dir()]
    for file in (file for place in places for file in sorted(place.glob("*"))):
        if file.suffix not in (".yaml", ".yml"):
            continue
        try:
            text = _read(file)
            rule = read_rule(text, file)
        except (RuleError, UnicodeDecodeError, OSError) as error:
            problems.append(RuleProblem(file, str(error)))
            continue
        if rule.id in rules:
            taken = rules[rule.id].file
            where = taken.name if taken.parent == file.parent else taken
            problems.append(RuleProblem(file, f"the id {rule.id} is taken by {where}"))
            continue
        rules[rule.id] = rule
        version.update(text.encode() + b"\0")
    return RuleSet(
        provider=provider,
        rules=tuple(rules[key] for key in sorted(rules)),
        problems=tuple(problems),
        version=version.hexdigest()[:16],
    )


def read_rule(text: str, file: Path) -> Rule:
    """Return the rule of a file's text. Raises `RuleError` with what is wrong."""
    entry = _mapping(text)
    unknown = [key for key in entry if key not in _KEYS]
    if unknown:
        near = nearest(str(unknown[0]), _KEYS)
        hint = f"; did you mean {near!r}?" if near else f"; known are {', '.join(_KEYS)}"
        raise RuleError(f"unknown key {unknown[0]!r}{hint}")
    for key in _REQUIRED:
        if not isinstance(entry.get(key), str) or not entry[key].strip():
            raise RuleError(f"{key} is missing or no text")
    if not _ID.fullmatch(entry["id"]):
        raise RuleError(f"id {entry['id']!r} is not of the form provider.what.is.wrong")
    categories = {category.value: category for category in Category}
    if entry["category"] not in categories:
        raise RuleError(f"category {entry['category']!r} is not one of {', '.join(categories)}")
    table = entry.get("table", "vms")
    if not isinstance(table, str) or not _TABLE.fullmatch(table):
        raise RuleError(f"table {table!r} is not vms or the name of a list")
    unless = entry.get("unless")
    return Rule(
        id=entry["id"],
        category=categories[entry["category"]],
        label=_template(entry, "label"),
        assessment=_template(entry, "assessment"),
        table=table,
        condition=_condition(entry["condition"], "condition"),
        unless=None if unless is None else _condition(unless, "unless"),
        examples=_examples(entry.get("examples", {})),
        file=file,
    )


def _read(file: Path) -> str:
    if not file.is_file():
        raise RuleError("not a file")  # reading a pipe would wait for ever
    if file.stat().st_size > _MAX_BYTES:
        raise RuleError(f"the file is larger than {_MAX_BYTES} bytes")
    return file.read_text(encoding="utf-8")


def _mapping(text: str) -> dict[str, Any]:
    if re.search(r"(^|[\s\[{,])&\w", text):
        raise RuleError("anchors are not taken in rule files")  # aliases can blow a small file up
    try:
        entry = _loaded(text)
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark is not None else ""
        raise RuleError(f"{where}{getattr(error, 'problem', None) or 'not YAML'}") from error
    except RecursionError as error:
        raise RuleError("nested too deep") from error
    except ValueError as error:  # a value that looks like a date and is none
        raise RuleError(f"not YAML: {error}") from error
    if not isinstance(entry, dict):
        raise RuleError("the file must be one mapping of keys")
    return entry


def _loaded(text: str) -> Any:
    """Read YAML 1.2 in a third of the time by libyaml; what that refuses is read again for the words and the place."""
    if max(map(len, text.splitlines()), default=0) + text.count("[") + text.count("{") <= _MAX_DEPTH:
        try:
            return YAML(typ="safe").load(text)
        except YAMLError:
            return YAML(typ="safe", pure=True).load(text)
    return YAML(typ="safe", pure=True).load(text)


def _template(entry: Mapping[str, Any], key: str) -> Template:
    try:
        return Template(" ".join(entry[key].split()))
    except ValueError as error:
        raise RuleError(f"{key}: {error}") from error


def _condition(text: object, key: str) -> Condition:
    if not isinstance(text, str):
        raise RuleError(f"{key} is no text")
    try:
        condition = parse(text)
    except ConditionError as error:
        raise RuleError(f"{key}: {error}") from error
    if not paths_of(condition):
        raise RuleError(f"{key} reads no attribute")
    return condition


def _examples(entry: object) -> dict[Outcome, tuple[Mapping[str, Any], ...]]:
    if not isinstance(entry, dict) or set(entry) - set(OUTCOMES):
        raise RuleError(f"examples must be a mapping of {', '.join(OUTCOMES)}")
    found: dict[Outcome, tuple[Mapping[str, Any], ...]] = {}
    for outcome in OUTCOMES:
        documents = entry.get(outcome, [])
        if not isinstance(documents, list) or not all(isinstance(document, dict) for document in documents):
            raise RuleError(f"examples.{outcome} must be a list of documents")
        found[outcome] = tuple(documents)
    return found
