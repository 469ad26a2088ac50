"""Steps of a whole run: freeze, snapshot, validate, report, verdict."""

from __future__ import annotations

from mtv.reporting import ReportFiles
from mtv.steps.context import RunContext


def freeze(ctx: RunContext) -> list[str]:
    """Pin the run's VM ids (those not migrated yet, in plan order) and return them; cleared, the same list again."""
    raise NotImplementedError


def snapshot_inventory(ctx: RunContext) -> None:
    """Read the run's VMs from their sources and pin what was seen (evidence SOURCE)."""
    raise NotImplementedError


def validate(ctx: RunContext) -> None:
    """Evaluate rules and plan conditions; Critical concerns block their VM only."""
    raise NotImplementedError


def report(ctx: RunContext) -> ReportFiles:
    """Write the run's report and return where it lies."""
    raise NotImplementedError


def verdict(ctx: RunContext) -> None:
    """Finish the run. Raises `PermanentError` listing every VM that did not migrate."""
    raise NotImplementedError


def close(ctx: RunContext) -> None:
    """Finish the run by what its VMs' rows say, without judging; for runs that are marked failed half-way."""
    raise NotImplementedError
