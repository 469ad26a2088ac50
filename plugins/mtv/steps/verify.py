"""Step verify."""

from __future__ import annotations

from mtv.steps.context import VmContext


def verify(ctx: VmContext) -> None:
    """Run the step."""
    raise NotImplementedError
