"""Rules as a Great Expectations suite, one per provider: each rule is an expectation that its column is never true.

Great Expectations costs seconds and 200 MB to import, so that happens inside `validate` only; call it once a run.
"""

from __future__ import annotations

# mypy: allow-untyped-calls
# (Great Expectations types its data, but not all of its functions)
import logging
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from mtv.model.concern import Category, Concern
from mtv.validation.firing import Document, Firing, firings
from mtv.validation.rules import RuleSet

_SEVERITY = {Category.CRITICAL: "critical", Category.WARNING: "warning", Category.INFORMATION: "info"}
_RANK = {category: rank for rank, category in enumerate(Category)}
_KEY = "document"


class Validation(NamedTuple):
    """Concerns per document, gravest first, and the suite's own result as JSON values."""

    concerns: list[list[Concern]]
    result: dict[str, Any]


def evaluate(rules: RuleSet, documents: Sequence[Document]) -> list[list[Concern]]:
    """Return the concerns of each document, gravest first. See `validate` for the result with all figures."""
    return validate(rules, documents).concerns


def validate(rules: RuleSet, documents: Sequence[Document]) -> Validation:
    """Run the provider's suite over the documents."""
    if not documents or not rules.rules:
        return Validation([[] for _ in documents], {})
    found = {firing.rule.id: firing for firing in firings(rules, documents)}
    result = _run_suite(rules, list(found.values()), len(documents))
    concerns: list[list[Concern]] = [[] for _ in documents]
    for one in result["results"]:
        firing = found[one["expectation_config"]["kwargs"]["column"]]
        if one["exception_info"].get("raised_exception"):
            raise RuntimeError(f"the suite failed on {firing.rule.id}: {one['exception_info']['exception_message']}")
        if one["result"]["unexpected_count"] != len(firing.concerns):
            raise RuntimeError(
                f"the suite finds {one['result']['unexpected_count']} documents for {firing.rule.id},"
                f" the rule itself {len(firing.concerns)}"
            )
        for row, said in firing.concerns.items():
            concerns[row] += said
    for of_document in concerns:
        of_document.sort(key=lambda concern: (_RANK[concern.category], concern.id))
    return Validation(concerns, result)


def _run_suite(rules: RuleSet, found: list[Firing], count: int) -> dict[str, Any]:
    os.environ["GX_ANALYTICS_ENABLED"] = "false"  # read on import: nothing here phones home
    # On import it tells dozens of lines about itself, among which a task's own words would be lost.
    logging.getLogger("great_expectations").setLevel(logging.WARNING)
    import great_expectations as gx
    import pandas as pd
    from great_expectations.data_context.types.base import ProgressBarsConfig
    from great_expectations.expectations.core.expect_column_values_to_not_be_in_set import (
        ExpectColumnValuesToNotBeInSet,
    )
    from great_expectations.expectations.metadata_types import FailureSeverity

    columns: dict[str, Any] = {_KEY: range(count)}
    for firing in found:
        # Undefined is null, which a column expectation leaves out of account.
        column = np.full(count, None, dtype=object)
        column[firing.known] = False
        column[firing.true] = True
        columns[firing.rule.id] = column
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    source = context.data_sources.add_pandas("inventory")
    batch_definition = source.add_dataframe_asset("documents").add_batch_definition_whole_dataframe("all")
    suite = gx.ExpectationSuite(
        name=rules.provider,
        expectations=[
            ExpectColumnValuesToNotBeInSet(
                column=firing.rule.id,
                value_set=[True],
                severity=FailureSeverity(_SEVERITY[firing.rule.category]),
                meta={"rules_version": rules.version, "file": firing.rule.file.name},
            )
            for firing in found
        ],
    )
    batch = batch_definition.get_batch(batch_parameters={"dataframe": pd.DataFrame(columns)})
    # Counts, no lists: which documents they are is known, and lists cost as much as all the rest.
    outcome = batch.validate(suite, result_format={"result_format": "BASIC"})
    return dict(outcome.to_json_dict())
