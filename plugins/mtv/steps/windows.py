"""A wave's window as steps keep to it: nothing begins once it has closed, and what has begun goes on to its end.

`freeze` looks before the run begins; a VM whose turn comes later is asked about here.
"""

from __future__ import annotations

from datetime import UTC, datetime

from mtv.plan.windows import check_window
from mtv.steps.context import VmContext


def refuse_beginning(ctx: VmContext) -> None:
    """Raise `PermanentError` (code WindowMissed) when this VM would begin after its window has closed."""
    if ctx.wave.window is not None and ctx.store.vm(*ctx.key).holder != ctx.run.id:
        check_window(ctx.wave.window, datetime.now(UTC), left=f"{ctx.vm.name} was not touched")


def refuse_shutdown(ctx: VmContext) -> None:
    """Raise `PermanentError` (code WindowMissed) when the source would be shut down after its window has closed."""
    if ctx.wave.window is not None:
        check_window(ctx.wave.window, datetime.now(UTC), left=f"{ctx.vm.name} is not shut down any more")
