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

from mtv.model.concern import Category, Concern
from mtv.validation.firing import Document, Firing, firings
from mtv.validation.rules import RuleSet

_SEVERITY = {Category.CRITICAL: "critical", Category.WARNING: "warning", Category.INFORMATION: "info"}


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
    found = sorted(firings(rules, documents), key=lambda firing: (firing.rule.category.rank, firing.rule.id))
    result = run_suite(rules, found)
    require_agreement(found, result)
    concerns: list[list[Concern]] = [[] for _ in documents]
    for firing in found:
        for row, said in firing.concerns.items():
            concerns[row] += said
    return Validation(concerns, result)


def require_agreement(found: Sequence[Firing], result: dict[str, Any]) -> None:
    """Raise `RuntimeError` where the suite failed, or counted other documents for a rule than the rule itself."""
    outcomes = {one["expectation_config"]["kwargs"]["column"]: one for one in result["results"]}
    for firing in found:
        one = outcomes[firing.rule.id]
        if "unexpected_count" not in one["result"]:
            raise RuntimeError(f"the suite failed on {firing.rule.id}: {one['exception_info']}")
        if one["result"]["unexpected_count"] != len(firing.concerns):
            raise RuntimeError(
                f"the suite finds {one['result']['unexpected_count']} documents for {firing.rule.id},"
                f" the rule itself {len(firing.concerns)}"
            )


def run_suite(rules: RuleSet, found: Sequence[Firing]) -> dict[str, Any]:
    """Let Great Expectations count where rules fire, and return its result as JSON values."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"  # read on import: nothing here phones home
    # On import it tells dozens of lines about itself, among which a task's own words would be lost.
    logging.getLogger("great_expectations").setLevel(logging.WARNING)
    import great_expectations as gx
    import pandas as pd
    from great_expectations.data_context.types.base import ProgressBarsConfig
    from great_expectations.expectations.metadata_types import FailureSeverity

    from mtv.validation.expectation import ExpectRuleToStaySilent

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    source = context.data_sources.add_pandas("inventory")
    batch_definition = source.add_dataframe_asset("documents").add_batch_definition_whole_dataframe("all")
    suite = gx.ExpectationSuite(
        name=rules.provider,
        expectations=[
            ExpectRuleToStaySilent(
                column=firing.rule.id,
                severity=FailureSeverity(_SEVERITY[firing.rule.category]),
                meta={"rules_version": rules.version, "file": firing.rule.file.name},
            )
            for firing in found
        ],
    )
    # Undefined is null.
    columns = {firing.rule.id: pd.arrays.BooleanArray(firing.true, ~firing.known) for firing in found}
    batch = batch_definition.get_batch(batch_parameters={"dataframe": pd.DataFrame(columns)})
    return dict(batch.validate(suite, result_format={"result_format": "BASIC"}).to_json_dict())
