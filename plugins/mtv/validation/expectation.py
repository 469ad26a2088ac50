"""What the suite expects of each rule, as Great Expectations' own kinds of metric and expectation.

Great Expectations costs seconds and 200 MB to import: only `mtv.validation.suite` imports this, when it runs a suite.
The expectations that come with it ask four metrics of each column and cost 18 ms each, however few the documents;
this one reads its figures from one metric of the whole table.
"""

from __future__ import annotations

from typing import Any

from great_expectations.core.metric_domain_types import MetricDomainTypes
from great_expectations.execution_engine.execution_engine import ExecutionEngine
from great_expectations.execution_engine.pandas_execution_engine import PandasExecutionEngine
from great_expectations.expectations.expectation import ColumnAggregateExpectation
from great_expectations.expectations.expectation_configuration import parse_result_format
from great_expectations.expectations.metrics.metric_provider import metric_value
from great_expectations.expectations.metrics.table_metric_provider import TableMetricProvider
from great_expectations.validator.metric_configuration import MetricConfiguration
from great_expectations.validator.validator import ValidationDependencies

_COUNTS = "table.rule_counts"


class RuleCounts(TableMetricProvider):
    """In how many rows each column is true, and in how many it is null."""

    metric_name = _COUNTS

    @metric_value(engine=PandasExecutionEngine)
    def _pandas(
        cls,  # the decorator wants it so
        execution_engine: PandasExecutionEngine,
        metric_domain_kwargs: dict[str, Any],
        **_: Any,
    ) -> dict[str, Any]:
        frame, _, _ = execution_engine.get_compute_domain(metric_domain_kwargs, domain_type=MetricDomainTypes.TABLE)
        return {"rows": len(frame), "true": frame.sum().to_dict(), "null": frame.isna().sum().to_dict()}


class ExpectRuleToStaySilent(ColumnAggregateExpectation):
    """Expect that a rule's column, null where the rule is undefined, is true in no row."""

    def get_validation_dependencies(
        self,
        execution_engine: ExecutionEngine[Any] | None = None,  # noqa: ARG002  # it is called by these names
        runtime_configuration: dict[str, Any] | None = None,
    ) -> ValidationDependencies:
        """Return the one metric, for the batch as a whole; by default its name is looked up anew for each rule."""
        counts = MetricConfiguration(_COUNTS, metric_domain_kwargs={"batch_id": self.batch_id, "table": None})
        return ValidationDependencies(
            metric_configurations={_COUNTS: counts},
            result_format=parse_result_format((runtime_configuration or {}).get("result_format", "BASIC")),
        )

    def _validate(
        self,
        metrics: dict[str, Any],
        runtime_configuration: dict[str, Any] | None = None,  # noqa: ARG002
        execution_engine: ExecutionEngine[Any] | None = None,  # noqa: ARG002
    ) -> dict[str, Any]:
        counts = metrics[_COUNTS]
        fired = int(counts["true"][self.column])
        figures = {
            "element_count": counts["rows"],
            "missing_count": int(counts["null"][self.column]),
            "unexpected_count": fired,
        }
        return {"success": fired == 0, "result": figures}
