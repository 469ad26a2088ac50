"""Step prepare."""

from __future__ import annotations

from mtv.steps.context import VmContext


def prepare(ctx: VmContext) -> None:
    """Run the step."""
    raise NotImplementedError
