"""Reading, checking and compiling plan files."""

from __future__ import annotations

from mtv.plan.compiled import CompiledPlan, compile_folder, load_compiled
from mtv.plan.load import LoadResult, load
from mtv.plan.names import dns_label
from mtv.plan.options import effective, effective_by_id
from mtv.plan.problems import Problem
from mtv.plan.schema import json_schema
from mtv.plan.unbuilt import not_built_yet

__all__ = [
    "CompiledPlan",
    "LoadResult",
    "Problem",
    "compile_folder",
    "dns_label",
    "effective",
    "effective_by_id",
    "json_schema",
    "load",
    "load_compiled",
    "not_built_yet",
]
