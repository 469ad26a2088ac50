"""`mtv plan check` and `schema`: what needs the plan's file and nothing else."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from mtv.cli.installation import Installation
from mtv.model.errors import PlanError
from mtv.model.text import count_of, printable
from mtv.plan import json_schema, load, not_built_yet
from mtv.plan.load import LoadResult, files_in


def load_or_complain(path: Path) -> LoadResult:
    """Return a plan that checks. Raises `PlanError` after printing every problem."""
    result = load(path)
    for problem in result.problems:
        print(printable(problem), file=sys.stderr)
    if result.plan is None:
        raise PlanError(f"{path} does not check", cure=f"mend what is said above, then `mtv plan check {path}`")
    return result


def check(arguments: argparse.Namespace, _: Installation) -> int:
    """Print every problem of every plan on a line; say which plans are fine."""
    code = 0
    for path in arguments.paths:
        members = files_in(path) if path.is_dir() else [path]
        if not members:
            print(f"{path}: no plan in this folder")
            code = 1
        for member in members:
            result = load(member)
            found = [*result.problems, *(not_built_yet(result.plan, origins=result.origins) if result.plan else ())]
            for problem in found:
                print(printable(problem))
            if found:
                code = 1
            elif result.plan is not None:
                vms = sum(len(wave.vms) for wave in result.plan.waves)
                waves = len(result.plan.waves)
                print(f"{member}: fine: plan {result.plan.name}, {count_of(waves, 'wave')}, {count_of(vms, 'VM')}")
    return code


def schema(_: argparse.Namespace, __: Installation) -> int:
    """Print the JSON Schema."""
    print(json.dumps(json_schema(), indent=2))
    return 0
