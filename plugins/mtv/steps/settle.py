"""Step settle."""

from __future__ import annotations

from mtv.steps.context import VmContext


def settle(ctx: VmContext) -> None:
    """Run the step."""
    raise NotImplementedError
