"""Progress of a long reading as lines of text: none for a short one, one every few seconds for a long one."""

from __future__ import annotations

import time
from collections.abc import Callable

from mtv.providers.base import Progress

EVERY_S = 5.0


def spoken(
    say: Callable[[str], None], source: str, *, every_s: float = EVERY_S, clock: Callable[[], float] = time.monotonic
) -> Progress:
    """Return a function for `snapshot(on_progress=…)` that says at most every `every_s` seconds how far it is."""
    last = clock()

    def told(done: int, total: int) -> None:
        nonlocal last
        now = clock()
        if now - last >= every_s:
            last = now
            say(f"{source}: {done:,} of {total:,} VMs read")

    return told
