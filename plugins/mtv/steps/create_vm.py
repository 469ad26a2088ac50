"""Step create_vm."""

from __future__ import annotations

from mtv.steps.context import VmContext


def create_vm(ctx: VmContext) -> None:
    """Run the step."""
    raise NotImplementedError
