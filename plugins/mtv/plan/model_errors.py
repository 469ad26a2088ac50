"""The model's own complaints, in words for people."""

from __future__ import annotations

import re
import types
import typing
from typing import Any

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from mtv.model.plan import Plan
from mtv.plan.names import LABEL_RULE, PLAN_NAME_RULE
from mtv.plan.origins import Origins
from mtv.plan.problems import Problem, did_you_mean

_MISSING_CURES: dict[tuple[str | int, ...], str] = {
    ("target",): "add `target: {connection: …, namespace: …}`",
    ("waves",): "add `waves:` with one key for each wave",
}

_FIRST_KEYS = ("connection", "storage_class", "type", "name")
"""What an entry says first: the others mean little without it."""


def problem_of(error: ErrorDetails, origins: Origins) -> Problem:
    """Return the problem for one error of pydantic."""
    loc = error["loc"]
    kind = error["type"]
    field = ".".join(str(part) for part in loc[-2:] if not isinstance(part, int)) if loc else "the plan"
    name = str(loc[-1]) if loc else field
    value = error.get("input")
    at_key = False
    if kind == "extra_forbidden":
        at_key = True
        message, cure = f"unknown key {name}", did_you_mean(name, _keys_at(loc[:-1]))
    elif kind == "missing":
        message, cure = f"{name} is missing", _MISSING_CURES.get(tuple(loc), f"add `{name}:`")
    elif kind == "literal_error":
        choices = re.findall(r"'([^']*)'", str(error.get("ctx", {}).get("expected", "")))
        message, cure = f"{name} is {value!r}", f"use {', '.join(choices[:-1])} or {choices[-1]}"
    elif kind == "string_pattern_mismatch":
        message = f"{name} {value!r} is not a valid name"
        cure = f"rename the file: {PLAN_NAME_RULE}" if loc == ("name",) else f"use {LABEL_RULE}"
    elif kind == "string_type":
        cure = "put it in quotes" if isinstance(value, bool | int | float) else f"write `{name}: text`"
        message = f"{field} is {_kind_of(value)}, not text"
    elif kind in {"model_type", "dict_type", "model_attributes_type"}:
        message, cure = f"{name} is {_kind_of(value)}, not a mapping", _mapping_cure(loc)
    elif kind in {"tuple_type", "list_type"}:
        message, cure = f"{name} is {_kind_of(value)}, not a list", f"write `{name}: [ … ]`"
    elif kind.startswith("bool"):
        message, cure = f"{name} is {value!r}", "use true or false"
    elif kind.startswith("int"):
        message, cure = f"{name} is {value!r}", "use a whole number"
    else:
        message, cure = f"{name} is {value!r}", error["msg"][0].lower() + error["msg"][1:]
    return origins.problem(loc, message, cure, key=at_key)


def _kind_of(value: Any) -> str:
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return f"the truth value {str(value).lower()}"
    if isinstance(value, int | float):
        return f"the number {value}"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    return f"the text {value!r}"


def _mapping_cure(loc: tuple[str | int, ...]) -> str:
    keys = _keys_at(loc)
    if not keys:
        return "write it as `key: value`"
    first = next((key for key in _FIRST_KEYS if key in keys), min(keys))
    entry = f"{{{first}: …}}"
    if not loc or isinstance(loc[-1], int):
        return f"write `{entry}`"
    name = '"*"' if loc[-1] == "*" else loc[-1]  # a bare * is YAML's own
    return f"write `{name}: {entry}`"


def _keys_at(loc: tuple[str | int, ...]) -> set[str]:
    """Return the known keys of the model at a location, as the file form spells them."""
    current: Any = Plan
    for part in loc:
        if isinstance(current, type) and issubclass(current, BaseModel):
            field = current.model_fields.get(str(part))
            current = field.annotation if field else None
        elif typing.get_origin(current) is dict:
            current = typing.get_args(current)[1]
        elif typing.get_origin(current) is tuple:
            current = typing.get_args(current)[0]
        if typing.get_origin(current) in {types.UnionType, typing.Union}:
            current = next(arg for arg in typing.get_args(current) if arg is not type(None))
        if typing.get_origin(current) is typing.Annotated:
            current = typing.get_args(current)[0]
    if isinstance(current, type) and issubclass(current, BaseModel):
        is_wave = len(loc) == 2 and loc[0] == "waves"
        return set(current.model_fields) - ({"name"} if is_wave else set())
    return set()
